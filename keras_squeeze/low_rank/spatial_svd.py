"""A convolution as one along its first axis and one along the others."""

from __future__ import annotations

import math

from keras_squeeze.low_rank.contraction import Array
from keras_squeeze.low_rank.matrix_decomposition import MatrixDecomposition
from keras_squeeze.low_rank.unfolding import reason_not_spatial


class SpatialSVD(MatrixDecomposition):
    """Cuts a convolution's kernel off at a rank between its spatial axes.

    The layers of the chain are a convolution along the first spatial axis to
    `rank` channels, and one along the other axes to the outputs; each has the
    strides and dilations of its own axes.

    Example:
    >>> SpatialSVD().factor_shapes((3, 3, 4, 8), ranks=2)
    ((3, 1, 4, 2), (1, 3, 2, 8))
    >>> SpatialSVD().macs((3, 3, 4, 8), ranks=2, strides=(2, 2))
    96

    References:
        [Jaderberg et al., 2014](https://arxiv.org/abs/1405.3866)
        [Tai et al., 2016](https://arxiv.org/abs/1511.06067)
    """

    name = "spatial_svd"
    equation = "hia,wao->hwio"

    def reason_not_applicable(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        dilations: tuple[int, ...] | None = None,
    ) -> str | None:
        """Says why a kernel cannot be decomposed this way."""
        return reason_not_spatial(shape, dimensions=(2, 3))

    def unfoldings(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The sizes of the matrix: first axis and inputs, by the rest."""
        columns = math.prod(shape[1:-2]) * shape[-1]
        return ((shape[0] * shape[-2], columns),)

    def unfolding(self, kernel: Array) -> Array:
        """The kernel with a row for each first position and input channel."""
        *_, inputs, outputs = kernel.shape
        parts = kernel.reshape(kernel.shape[0], -1, inputs, outputs)
        rows = kernel.shape[0] * inputs
        return parts.transpose(0, 2, 1, 3).reshape(rows, -1)

    def _columns(self, factor: Array) -> Array:
        rank, outputs = factor.shape[-2:]
        parts = factor.reshape(-1, rank, outputs)
        return parts.transpose(1, 0, 2).reshape(rank, -1)

    def _last_factor(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        parts = matrix.reshape(len(matrix), -1, shape[-1])
        return parts.transpose(1, 0, 2).reshape(shape)

    def _shapes(
        self, shape: tuple[int, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[int, ...], ...]:
        first, *others, inputs, outputs = shape
        ones = (1,) * len(others)
        return (first, *ones, inputs, ranks[0]), (1, *others, ranks[0], outputs)

    def _positions(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        # The first layer strides along its own axis alone.
        return math.prod(strides[1:]), 1
