"""A kernel and what it is multiplied with: the codes that fit both."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.gram_matrix import (
    correction_factors,
    damped_gram,
)
from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import Quantizer
from keras_squeeze.quantizers.reconstruction_candidate import (
    Candidate,
    column_channels,
)
from keras_squeeze.quantizers.reconstruction_feedback import (
    descend,
    feed_back_errors,
)
from keras_squeeze.quantizers.reconstruction_grid import (
    MatrixGrid,
    in_order,
)


class ReconstructionProblem:
    """Weights, and the Gram matrices their errors are weighed with.

    Args:
        values: float32 array, the kernel.
        gram: float64 array of shape `(groups, inputs, inputs)`.
        view: `KernelMatrix` of the kernel's shape.
        order: Integer array of shape `(groups, inputs)`.
        damping: Float, a share of the mean square.
        name: String. Where the kernel comes from, for the message of an
            error.
    """

    def __init__(
        self,
        values: NDArray[np.float32],
        gram: NDArray[np.float64],
        view: KernelMatrix,
        order: NDArray[np.intp],
        damping: float,
        name: str,
    ) -> None:
        self.view, self._order = view, order
        self._back = np.argsort(order, axis=1)
        self._gram = np.take_along_axis(
            in_order(gram, order), order[:, None], axis=2
        )
        self._target = self._matrix(values).astype(np.float64)
        self._damped = damped_gram(self._gram, damping)
        self._correction = correction_factors(self._gram, damping, name)

    def _matrix(self, array: NDArray[Any]) -> NDArray[Any]:
        return in_order(self.view.to_matrix(array), self._order)

    def candidate(self, tensor: QuantizedTensor) -> Candidate:
        """A tensor with the output error of its columns.

        Args:
            tensor: `QuantizedTensor`.

        Returns:
            `Candidate`.
        """
        error = self._matrix(tensor.dequantize()) - self._target
        errors = np.einsum("gio,gio->go", error, self._gram @ error)
        # Rounding may leave less than nothing of errors that are nothing.
        return Candidate(tensor, np.maximum(errors, 0.0))

    def rounded(
        self, tensor: QuantizedTensor, quantizer: Quantizer
    ) -> QuantizedTensor:
        """Each weight at its nearest level of a tensor's grid.

        Args:
            tensor: `QuantizedTensor`; codes of settled weights stay.
            quantizer: `Quantizer` that made it.

        Returns:
            `QuantizedTensor`.
        """
        grid, codes, settled = self._start(tensor, quantizer)
        for i in range(codes.shape[1]):
            nearest = grid.nearest(self._target[:, i], i)
            codes[:, i] = np.where(settled[:, i], codes[:, i], nearest)
        return self._with_codes(tensor, codes)

    def fed_back(
        self, tensor: QuantizedTensor, quantizer: Quantizer
    ) -> QuantizedTensor:
        """Codes by error feedback, on a tensor's grid.

        Args:
            tensor: `QuantizedTensor`; codes of settled weights stay.
            quantizer: `Quantizer` that made it.

        Returns:
            `QuantizedTensor`.
        """
        grid, codes, settled = self._start(tensor, quantizer)
        found = feed_back_errors(
            self._target, self._correction, grid, settled, codes
        )
        return self._with_codes(tensor, found)

    def descended(
        self, tensor: QuantizedTensor, quantizer: Quantizer, passes: int
    ) -> QuantizedTensor:
        """Codes each chosen anew given the others, on a tensor's grid.

        Args:
            tensor: `QuantizedTensor`, where to start.
            quantizer: `Quantizer` that made it.
            passes: Integer.

        Returns:
            `QuantizedTensor`.
        """
        grid, codes, settled = self._start(tensor, quantizer)
        found = descend(
            self._target, self._damped, grid, settled, codes, passes
        )
        return self._with_codes(tensor, found)

    def scale_factors(self, tensor: QuantizedTensor) -> NDArray[np.float64]:
        """What each channel's scale is best multiplied with, as codes are.

        Args:
            tensor: `QuantizedTensor`.

        Returns:
            float64 array of shape `(channels,)`, 1 where nothing is known.
        """
        values = self._matrix(tensor.dequantize()).astype(np.float64)
        products = self._gram @ values
        wanted = np.einsum("gio,gio->go", products, self._target)
        there = np.einsum("gio,gio->go", products, values)
        columns = column_channels(tensor, self.view)
        if columns is None:
            columns = np.zeros(there.shape, np.intp)
        count = len(tensor.scale)
        total = np.bincount(columns.ravel(), there.ravel(), count)
        share = np.bincount(columns.ravel(), wanted.ravel(), count)
        known = (total > 0) & (share > 0)
        factors: NDArray[np.float64] = np.where(known, share, 1.0)
        return factors / np.where(known, total, 1.0)

    def _start(
        self, tensor: QuantizedTensor, quantizer: Quantizer
    ) -> tuple[MatrixGrid, NDArray[np.int32], NDArray[np.bool_]]:
        grid = MatrixGrid.of(tensor, quantizer, self.view)
        codes = self._matrix(tensor.codes).astype(np.int32)
        zeros = self._matrix(tensor.dequantize()) == 0
        settled = (self._target == 0) & zeros
        return grid.ordered(self._order), codes, settled

    def _with_codes(
        self, tensor: QuantizedTensor, codes: NDArray[np.int32]
    ) -> QuantizedTensor:
        back = in_order(codes, self._back).astype(tensor.codes.dtype)
        return dataclasses.replace(tensor, codes=self.view.from_matrix(back))
