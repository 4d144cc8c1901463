"""The levels each weight may take, for a kernel seen as matrices."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.quantizers.layout import (
    canonical_shape,
    from_canonical,
)
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import Quantizer
from keras_squeeze.quantizers.sorted_codebooks import SortedCodebooks


@dataclasses.dataclass(frozen=True)
class MatrixGrid:
    """The grid of a quantized tensor, laid out beside a kernel's matrices.

    Args:
        scale: float32 array of shape `(groups, inputs, outputs)`.
        lowest: Integer, the lowest code of a uniform grid.
        highest: Integer, the highest one.
        signs: Boolean. Whether the codes are -1 and +1 only. Defaults to
            `False`.
        zero_point: Optional int16 array of the shape of `scale`.
        codebooks: Optional `SortedCodebooks`.
        rows: Optional integer array of the shape of `scale`: the codebook of
            each weight.
    """

    scale: NDArray[np.float32]
    lowest: int
    highest: int
    signs: bool = False
    zero_point: NDArray[np.int16] | None = None
    codebooks: SortedCodebooks | None = None
    rows: NDArray[np.intp] | None = None

    @classmethod
    def of(
        cls, tensor: QuantizedTensor, quantizer: Quantizer, view: KernelMatrix
    ) -> MatrixGrid:
        """The grid of a tensor.

        Args:
            tensor: `QuantizedTensor`.
            quantizer: `Quantizer` that made it.
            view: `KernelMatrix` of its shape.

        Returns:
            `MatrixGrid`.
        """
        lowest, highest = -quantizer.largest_code, quantizer.largest_code
        zero_point = codebooks = rows = None
        if tensor.zero_point is not None:
            half = 2 ** (tensor.bits - 1)
            lowest, highest = -half, half - 1
            zero_point = beside_kernel(tensor.zero_point, tensor, view)
        if tensor.codebook is not None:
            codebooks = SortedCodebooks.of(tensor.codebook, tensor.bits)
            rows = np.broadcast_to(np.intp(0), view.matrix_shape)
            if len(tensor.codebook) > 1:
                rows = channel_index(tensor, view)
        scale = beside_kernel(tensor.scale, tensor, view)
        signs = tensor.bits == 1
        return cls(scale, lowest, highest, signs, zero_point, codebooks, rows)

    def ordered(self, order: NDArray[np.intp]) -> MatrixGrid:
        """The same with the inputs of each group in another order.

        Args:
            order: Integer array of shape `(groups, inputs)`.

        Returns:
            `MatrixGrid`.
        """
        return dataclasses.replace(
            self,
            scale=in_order(self.scale, order),
            zero_point=_maybe(self.zero_point, order),
            rows=_maybe(self.rows, order),
        )

    def nearest(
        self, wanted: NDArray[np.float64], place: int
    ) -> NDArray[np.int32]:
        """The codes whose values are nearest to those wanted for an input.

        Args:
            wanted: float64 array of shape `(groups, outputs)`.
            place: Integer, the input.

        Returns:
            int32 array of the same shape.
        """
        scale = self.scale[:, place]
        steps = wanted / np.where(scale > 0, scale, np.float32(1))
        steps = np.where(scale > 0, steps, 0.0)
        if self.codebooks is not None and self.rows is not None:
            return self.codebooks.nearest(steps, self.rows[:, place])
        if self.zero_point is not None:
            # Rounded before it is shifted: halves go to even multiples.
            steps = steps if self.signs else np.rint(steps)
            steps = steps + self.zero_point[:, place]
        if self.signs:
            return np.where(steps < 0, -1, 1).astype(np.int32)
        codes = np.rint(steps)
        return np.clip(codes, self.lowest, self.highest).astype(np.int32)

    def values(
        self, codes: NDArray[np.int32], place: int
    ) -> NDArray[np.float64]:
        """What codes of an input stand for.

        Args:
            codes: int32 array of shape `(groups, outputs)`.
            place: Integer, the input.

        Returns:
            float64 array of the same shape.
        """
        levels: NDArray[Any] = codes
        if self.codebooks is not None and self.rows is not None:
            levels = self.codebooks.values(codes, self.rows[:, place])
        elif self.zero_point is not None:
            levels = codes - self.zero_point[:, place].astype(np.int32)
        return levels * self.scale[:, place].astype(np.float64)


def beside_kernel(
    figures: NDArray[Any], tensor: QuantizedTensor, view: KernelMatrix
) -> NDArray[Any]:
    """Figures of channels and groups, one beside each weight.

    Args:
        figures: Array of shape `(channels, groups)`.
        tensor: `QuantizedTensor` whose channels and groups they are.
        view: `KernelMatrix` of its shape.

    Returns:
        Array of shape `(groups, inputs, outputs)`.
    """
    channels, rest = canonical_shape(tensor.shape, tensor.axis)
    spread = figures
    if figures.shape[1] > 1:
        spread = np.repeat(figures, tensor.group_size or rest, axis=1)[:, :rest]
    spread = np.broadcast_to(spread, (channels, rest))
    return view.to_matrix(from_canonical(spread, tensor.shape, tensor.axis))


def channel_index(
    tensor: QuantizedTensor, view: KernelMatrix
) -> NDArray[np.intp]:
    """The channel of each weight.

    Args:
        tensor: `QuantizedTensor`.
        view: `KernelMatrix` of its shape.

    Returns:
        Integer array of shape `(groups, inputs, outputs)`.
    """
    channels = canonical_shape(tensor.shape, tensor.axis)[0]
    index = np.arange(channels, dtype=np.intp)[:, None]
    return beside_kernel(index, tensor, view)


def in_order(array: NDArray[Any], order: NDArray[np.intp]) -> NDArray[Any]:
    """The inputs of each group in an order of their own.

    Args:
        array: Array of shape `(groups, inputs, outputs)`.
        order: Integer array of shape `(groups, inputs)`.

    Returns:
        Array of the shape of `array`.
    """
    return np.take_along_axis(array, order[:, :, None], axis=1)


def _maybe(
    array: NDArray[Any] | None, order: NDArray[np.intp]
) -> NDArray[Any] | None:
    return None if array is None else in_order(array, order)
