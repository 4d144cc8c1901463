"""A convolution between two of single positions, at fewer channels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.low_rank.contraction import Array
from keras_squeeze.low_rank.decomposition import Bonds, Decomposition
from keras_squeeze.low_rank.truncated_svd import (
    leading_vectors,
    singular_values,
)
from keras_squeeze.low_rank.unfolding import reason_not_spatial

Matrix = NDArray[np.float64]

_SWEEPS = 3
_BALANCING_SWEEPS = 20
# Directions below this share of the first are rounding, not to be inverted.
_RANK_TOLERANCE = 1e-10


class _Parts(NamedTuple):
    """Orthonormal columns either side of a core, and their scales."""

    left: Matrix
    core: Matrix
    right: Matrix
    left_scale: Matrix
    right_scale: Matrix

    def scaled(self) -> tuple[Matrix, Matrix, Matrix]:
        """The three factors, the last one transposed."""
        scales = np.multiply.outer(self.left_scale, self.right_scale)
        left, right = self.left * self.left_scale, self.right * self.right_scale
        return left, self.core / scales, right


class Tucker2(Decomposition):
    """Lowers both the input and the output channels of a convolution.

    The layers of the chain are a convolution of extent one to the first rank,
    one of the kernel's extent, strides and dilations to the second, and one
    of extent one to the outputs. The ranks start at those of the truncated
    higher-order SVD, and a few sweeps of alternating projections lower the
    error from there. Scales are spread so that the squares of the weights
    before and behind each channel of a bond sum to the same.

    Example:
    >>> Tucker2().factor_shapes((3, 3, 16, 32), ranks=(4, 8))
    ((1, 1, 16, 4), (3, 3, 4, 8), (1, 1, 8, 32))
    >>> Tucker2().max_ranks((3, 3, 16, 32))
    (16, 32)

    References:
        [De Lathauwer et al., 2000](https://doi.org/10.1137/S0895479898346995)
        [Kim et al., 2016](https://arxiv.org/abs/1511.06530)
    """

    name = "tucker2"
    equation = "ia,kab,bo->kio"
    rank_count = 2

    def reason_not_applicable(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        dilations: tuple[int, ...] | None = None,
    ) -> str | None:
        """Says why a kernel cannot be decomposed this way."""
        return reason_not_spatial(shape, dimensions=(1, 2, 3))

    def unfoldings(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The sizes of the matrices: each of the channels by all the rest."""
        size = math.prod(shape)
        return tuple((n, size // n) for n in shape[-2:])

    def _shapes(
        self, shape: tuple[int, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[int, ...], ...]:
        ones = (1,) * (len(shape) - 2)
        return (
            (*ones, shape[-2], ranks[0]),
            (*shape[:-2], *ranks),
            (*ones, ranks[1], shape[-1]),
        )

    def _positions(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        # The first layer runs before the stride, at every input position.
        return math.prod(strides), 1, 1

    def _spectra(self, kernel: Array) -> tuple[Matrix, ...]:
        whole = _flat(kernel)
        return tuple(singular_values(_unfolded(whole, axis)) for axis in (1, 2))

    def _decompose(
        self, kernel: Array, ranks: tuple[int, ...], seed: int
    ) -> tuple[Array, ...]:
        parts = _balanced(*_projected(_flat(kernel), ranks, seed))
        return self._fold(parts.scaled(), kernel.shape)

    def _retruncate(
        self, factors: tuple[Array, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], Bonds]:
        first, core, last = factors
        left, left_inner = np.linalg.qr(first.reshape(first.shape[-2:]))
        right, right_inner = np.linalg.qr(last.reshape(last.shape[-2:]).T)
        inner = left_inner @ _flat(core) @ right_inner.T
        parts = _balanced(*_projected(inner, ranks, 0))
        before, middle, behind = parts.scaled()
        shape = (*core.shape[:-2], first.shape[-2], last.shape[-1])
        found = self._fold((left @ before, middle, right @ behind), shape)
        return found, (
            (
                _pseudo_inverse(left_inner) @ before,
                (parts.left / parts.left_scale).T @ left_inner,
            ),
            (
                right_inner.T @ (parts.right / parts.right_scale),
                (_pseudo_inverse(right_inner) @ behind).T,
            ),
        )

    def _fold(
        self, parts: tuple[Matrix, Matrix, Matrix], shape: tuple[int, ...]
    ) -> tuple[Array, ...]:
        """The factors as kernels of convolutions."""
        left, core, right = parts
        ranks = (left.shape[1], right.shape[1])
        shapes = self._shapes(shape, ranks)
        arrays = (left, core, right.T)
        pairs = zip(arrays, shapes, strict=True)
        return tuple(array.reshape(each) for array, each in pairs)


def _flat(kernel: Array) -> Array:
    """The kernel with its spatial axes as one."""
    return kernel.reshape(-1, *kernel.shape[-2:])


def _unfolded(whole: Array, axis: int) -> Array:
    """A row for each place along the axis."""
    return np.moveaxis(whole, axis, 0).reshape(whole.shape[axis], -1)


def _projected(
    whole: Array, ranks: tuple[int, ...], seed: int
) -> tuple[Matrix, Matrix, Matrix]:
    """Bases of the channels, and the kernel as seen in them.

    The first basis is that of the higher-order SVD; each further one is the
    best there is for the other, so that the error never grows.
    """
    right = leading_vectors(_unfolded(whole, 2), ranks[1], seed)
    left = right
    for _ in range(_SWEEPS):
        left = leading_vectors(_unfolded(whole @ right, 1), ranks[0], seed)
        right = leading_vectors(_unfolded(left.T @ whole, 2), ranks[1], seed)
    return left, np.asarray(left.T @ whole @ right, np.float64), right


def _balanced(left: Matrix, core: Matrix, right: Matrix) -> _Parts:
    """Finds scales at which either side of a channel weighs the same.

    The fixed point exists and is one: in logarithms the step halves the
    distance between any two positive vectors.
    """
    squares = np.square(core).sum(axis=0)
    before, behind = np.ones(left.shape[1]), np.ones(right.shape[1])
    for _ in range(_BALANCING_SWEEPS):
        before = _positive(np.sqrt(squares @ (1 / behind)))
        behind = _positive(np.sqrt(squares.T @ (1 / before)))
    return _Parts(left, core, right, np.sqrt(before), np.sqrt(behind))


def _positive(values: Matrix) -> Matrix:
    """One for channels that carry nothing, whose scale is free."""
    return np.where(values > 0, values, 1.0)


def _pseudo_inverse(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.pinv(matrix, rcond=_RANK_TOLERANCE))
