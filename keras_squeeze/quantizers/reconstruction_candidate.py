"""Codes of a kernel, and the better of two of them."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.reconstruction_grid import channel_index


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Codes of a kernel and the output error of each column.

    Args:
        tensor: `QuantizedTensor`.
        errors: float64 array of shape `(groups, outputs)`.
    """

    tensor: QuantizedTensor
    errors: NDArray[np.float64]

    def better_columns(self, other: Candidate, view: KernelMatrix) -> Candidate:
        """The better codes of each column, of two on one grid.

        Args:
            other: `Candidate` with the same scale, zero point and codebook.
            view: `KernelMatrix` of its shape.

        Returns:
            `Candidate`.
        """
        take = other.errors < self.errors
        codes = np.where(
            take[:, None],
            view.to_matrix(other.tensor.codes),
            view.to_matrix(self.tensor.codes),
        )
        tensor = dataclasses.replace(self.tensor, codes=view.from_matrix(codes))
        return Candidate(tensor, np.minimum(self.errors, other.errors))

    def better_channels(
        self, other: Candidate, view: KernelMatrix
    ) -> Candidate:
        """The better of two grids, for each channel where that can be.

        Args:
            other: `Candidate`.
            view: `KernelMatrix` of its shape.

        Returns:
            `Candidate`.
        """
        columns = column_channels(self.tensor, view)
        if columns is None or not _same_codebook(self.tensor, other.tensor):
            worse = other.errors.sum() >= self.errors.sum()
            return self if worse else other
        count = len(self.tensor.scale)
        ours, theirs = (
            np.bincount(columns.ravel(), one.errors.ravel(), count)
            for one in (self, other)
        )
        take = theirs < ours
        return Candidate(
            _mixed(self.tensor, other.tensor, take, take[columns], view),
            np.where(take[columns], other.errors, self.errors),
        )


def column_channels(
    tensor: QuantizedTensor, view: KernelMatrix
) -> NDArray[np.intp] | None:
    """The channel of each column, if no column has weights of two.

    Args:
        tensor: `QuantizedTensor`.
        view: `KernelMatrix` of its shape.

    Returns:
        Integer array of shape `(groups, outputs)`, or `None`.
    """
    index = channel_index(tensor, view)
    first = index[:, 0]
    return first if (index == first[:, None]).all() else None


def _same_codebook(one: QuantizedTensor, other: QuantizedTensor) -> bool:
    if one.codebook is None or other.codebook is None:
        return True
    return np.array_equal(one.codebook, other.codebook)


def _mixed(
    one: QuantizedTensor,
    other: QuantizedTensor,
    channels: NDArray[np.bool_],
    columns: NDArray[np.bool_],
    view: KernelMatrix,
) -> QuantizedTensor:
    """The second tensor in some channels, the first in all others."""
    codes = np.where(
        columns[:, None],
        view.to_matrix(other.codes),
        view.to_matrix(one.codes),
    )
    zero_point = one.zero_point
    if zero_point is not None and other.zero_point is not None:
        zero_point = np.where(channels[:, None], other.zero_point, zero_point)
    return dataclasses.replace(
        one,
        codes=view.from_matrix(codes),
        scale=np.where(channels[:, None], other.scale, one.scale),
        zero_point=zero_point,
    )
