"""How a quantized kernel lies in a layer's two variables."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from keras_squeeze import quantizers
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import QuantizedTensor, Quantizer
from keras_squeeze.quantizers.layout import canonical_shape, group_count
from keras_squeeze.quantizers.packing import packed_size


@dataclasses.dataclass(frozen=True)
class KernelLayout:
    """Shapes and order of the codes and the scale of one kernel.

    Args:
        name: String. The kernel's name, `"kernel"` or `"embeddings"`.
        shape: Tuple of integers. The kernel's shape.
        channel_axis: Ascending tuple of the axes that index its channels.
        channels_first: Boolean. Whether the codes are stored with those axes
            first.
        quantizer: `Quantizer`.
    """

    name: str
    shape: tuple[int, ...]
    channel_axis: tuple[int, ...]
    channels_first: bool
    quantizer: Quantizer

    @property
    def axis(self) -> tuple[int, ...]:
        """The axes that index the scales, `()` for one scale."""
        per_tensor = self.quantizer.granularity == "per_tensor"
        return () if per_tensor else self.channel_axis

    @property
    def rest(self) -> tuple[int, ...]:
        """The axes along which values share a scale."""
        return tuple(i for i in range(len(self.shape)) if i not in self.axis)

    @property
    def count(self) -> int:
        """Number of codes."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Bits a stored code: 1, 2, 4 or 8."""
        return quantizers.storage_width(self.quantizer.bits)

    @property
    def order(self) -> tuple[int, ...]:
        """The kernel's axes in the order in which codes are stored."""
        every = range(len(self.shape))
        if not self.channels_first:
            return tuple(every)
        kept = self.channel_axis
        return (*kept, *(i for i in every if i not in kept))

    @property
    def kernel_order(self) -> tuple[int, ...] | None:
        """The stored axes in the kernel's order; `None` if they are."""
        order = tuple(int(i) for i in np.argsort(self.order))
        return None if order == self.order == tuple(sorted(order)) else order

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the codes in storage order."""
        return tuple(self.shape[i] for i in self.order)

    def variables(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of the two variables by name, codes first.

        Returns:
            Dictionary of name to pair of shape and dtype.
        """
        codes: tuple[tuple[int, ...], str] = (self.stored_shape, "int8")
        if self.width < 8:
            codes = ((packed_size(self.count, self.width),), "uint8")
        channels, rest = canonical_shape(self.shape, self.axis)
        groups = group_count(rest, self.quantizer.group_size)
        return {
            f"{self.name}_codes": codes,
            f"{self.name}_scale": ((channels, groups), "float32"),
        }

    def values(self, tensor: QuantizedTensor | None) -> dict[str, Any]:
        """The values of the two variables for a quantized kernel.

        Args:
            tensor: `QuantizedTensor` made by a quantizer like this one, or
                `None` for a kernel of zeros.

        Returns:
            Dictionary of variable name to array.

        Raises:
            SqueezeError: If shape, bits, axis or groups do not fit.
        """
        if tensor is None:
            specs = self.variables().items()
            return {name: np.zeros(*spec) for name, spec in specs}
        self._check_fits(tensor)
        codes = np.ascontiguousarray(tensor.codes.transpose(self.order))
        if self.width < 8:
            codes = quantizers.pack_codes(codes, self.width)
        names = list(self.variables())
        return {names[0]: codes, names[1]: tensor.scale}

    def _check_fits(self, tensor: QuantizedTensor) -> None:
        self.check_shape(tensor.shape)
        found = (tensor.bits, tensor.axis, tensor.group_size)
        quantizer = self.quantizer
        expected = (quantizer.bits, self.axis, quantizer.group_size)
        if found != expected:
            raise SqueezeError(
                "Expected a quantized kernel with (bits, axis, group_size) "
                f"{expected}. Received: {found}"
            )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises `SqueezeError` unless a kernel has the shape."""
        if tuple(shape) != self.shape:
            raise SqueezeError(
                f"Expected a kernel of shape {self.shape}. "
                f"Received: shape {tuple(shape)}"
            )

    def tensor(self, codes: Any, scale: Any) -> QuantizedTensor:
        """Undoes `values`.

        Args:
            codes: Array, the value of the first variable.
            scale: Array, the value of the second variable.

        Returns:
            `QuantizedTensor` whose codes have the kernel's shape.
        """
        if self.width < 8:
            codes = quantizers.unpack_codes(codes, self.width, self.count)
            codes = codes.reshape(self.stored_shape)
        return QuantizedTensor(
            codes=codes.transpose(self.kernel_order or self.order),
            scale=scale,
            bits=self.quantizer.bits,
            axis=self.axis,
            group_size=self.quantizer.group_size,
        )


def kernel_layout(
    target: Any, layer: Any, shape: Any, quantizer: Quantizer
) -> KernelLayout:
    """The layout of a layer's kernel in its quantized class.

    Args:
        target: A subclass of `QuantizedKernel`.
        layer: The layer: of that class, or one that is to become it.
        shape: The kernel's shape.
        quantizer: `Quantizer`.

    Returns:
        `KernelLayout`.
    """
    plain = tuple(int(dimension) for dimension in shape)
    return KernelLayout(
        name=target.kernel_name,
        shape=plain,
        channel_axis=target.channel_axis(layer, plain),
        channels_first=target.channels_first,
        quantizer=quantizer,
    )
