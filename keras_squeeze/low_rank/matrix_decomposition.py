"""Two factors from the singular values of one matrix of the kernel."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.low_rank.contraction import Array
from keras_squeeze.low_rank.decomposition import Bonds, Decomposition
from keras_squeeze.low_rank.truncated_svd import singular_values, truncated_svd


class MatrixDecomposition(Decomposition):
    """Base of decompositions that cut a kernel's axes into two groups.

    The kernel, unfolded to a matrix, is cut off at its first singular values.
    The root of each goes to either factor, so that both train alike.

    Subclasses say what the matrix is.

    References:
        [Eckart and Young, 1936](https://doi.org/10.1007/BF02288367)
    """

    @abstractmethod
    def unfolding(self, kernel: Array) -> Array:
        """The kernel as the matrix that is cut off.

        Args:
            kernel: Array of weights.

        Returns:
            Array of shape `unfoldings(kernel.shape)[0]`.
        """

    def _columns(self, factor: Array) -> Array:
        """The last factor as a matrix `(rank, columns)`."""
        return factor.reshape(factor.shape[-2], -1)

    def _last_factor(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """What `_columns` was made of."""
        return matrix.reshape(shape)

    def _spectra(self, kernel: Array) -> tuple[NDArray[np.float64], ...]:
        return (singular_values(self.unfolding(kernel)),)

    def _decompose(
        self, kernel: Array, ranks: tuple[int, ...], seed: int
    ) -> tuple[Array, ...]:
        u, s, vt = truncated_svd(self.unfolding(kernel), ranks[0], seed)
        first, last = self._shapes(kernel.shape, ranks)
        root = np.sqrt(s)
        right = self._last_factor(root[:, np.newaxis] * vt, last)
        return (u * root).reshape(first), right

    def _retruncate(
        self, factors: tuple[Array, ...], ranks: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], Bonds]:
        first, last = factors
        columns = self._columns(last)
        # With the triangles of A = Q R and B.T = Q' R', the singular values
        # of A B are those of R R'.T, and A R'.T v / s = Q u asks for no Q.
        left = _triangle(first.reshape(-1, first.shape[-1]))
        right = _triangle(columns.T)
        u, s, vt = truncated_svd(left @ right.T, ranks[0])
        inverse = inverse_roots(s)
        p, q = right.T @ vt.T * inverse, (u * inverse).T @ left
        shape = (*last.shape[:-2], ranks[0], last.shape[-1])
        return (first @ p, self._last_factor(q @ columns, shape)), ((p, q),)


def _triangle(matrix: Array) -> NDArray[np.float64]:
    return np.asarray(np.linalg.qr(matrix, mode="r"), np.float64)


def inverse_roots(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over the roots; zero where a value is but rounding of the first.

    Args:
        values: Array of values from zero, descending.

    Returns:
        Array of that length.
    """
    least = len(values) * np.finfo(np.float64).eps * values[:1]
    real = (values > least) & (values > 0)
    return np.where(real, 1 / np.sqrt(np.where(real, values, 1.0)), 0.0)
