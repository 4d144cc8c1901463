"""Singular values and vectors, at the price that the size of a matrix asks."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.low_rank.contraction import Array, finite, working

Matrix = NDArray[np.float64]

# Up to so many rows or columns the exact decomposition takes no time.
_EXACT = 256
# The range finder pays where the rank is below this share of the matrix.
_RANDOMIZED_SHARE = 8
# It stops when an iteration gains less than this share of what is left out.
_GAIN = 5e-4
# The share of squares below which there is rounding alone.
_ROUNDING = 1e-12
_MAX_ITERATIONS = 16
_BLOCK_ROWS = 4096


def truncated_svd(
    matrix: NDArray[Any], rank: int, seed: int = 0
) -> tuple[Matrix, Matrix, Matrix]:
    """The first singular values of a matrix, and their vectors.

    Matrices with at most 256 rows or columns are decomposed exactly. Larger
    ones go through the eigenvectors of their Gram matrix in float64, or,
    where the rank is below an eighth of them, through a random range of
    `1.5 * rank + 16` dimensions that is multiplied with the matrix until it
    stops gaining. Equal arguments give equal results on one number of
    threads.

    The error of the product exceeds the least possible one by rounding with
    the first two ways, and by less than 1 % with the third.

    Args:
        matrix: Array of shape `(rows, columns)`, finite, floating-point.
        rank: Integer, at most the lesser of rows and columns.
        seed: Integer. Of the random matrix. Defaults to `0`.

    Returns:
        Tuple `(u, s, vt)` of float64 arrays of shapes `(rows, rank)`,
        `(rank,)` and `(rank, columns)`: `u * s @ vt` is near the matrix, `s`
        descends. The vectors are orthonormal as far as their values are above
        `1e-7` of the first; those of zero may be zero.

    Raises:
        SqueezeError: If it is no matrix, or the rank is not within its sizes.
        NonFiniteError: If a number is NaN or infinite.

    Example:
    >>> u, s, vt = truncated_svd(np.diag([1.0, 3.0, 2.0]), rank=2)
    >>> s
    array([3., 2.])
    >>> abs(u * s @ vt).round(6).diagonal()
    array([0., 3., 2.])

    References:
        [Halko et al., 2011](https://arxiv.org/abs/0909.4061)
    """
    array, scale = _scaled(matrix)
    least = min(array.shape)
    if not 1 <= rank <= least:
        raise SqueezeError(
            f"Expected a rank from 1 to {least} for a matrix of shape "
            f"{array.shape}. Received: {rank}"
        )
    if least <= _EXACT:
        u, s, vt = np.linalg.svd(array.astype(np.float64), full_matrices=False)
        return u[:, :rank], s[:rank] * scale, vt[:rank]
    if array.shape[0] < array.shape[1]:
        v, s, ut = _tall(array.T, rank, seed)
        return np.ascontiguousarray(ut.T), s * scale, np.ascontiguousarray(v.T)
    u, s, vt = _tall(array, rank, seed)
    return u, s * scale, vt


def singular_values(matrix: NDArray[Any]) -> Matrix:
    """All singular values of a matrix.

    Those of matrices with more than 256 rows and columns are the roots of the
    eigenvalues of the Gram matrix in float64: what is below `1e-8` of the
    first is rounding.

    Args:
        matrix: Array of shape `(rows, columns)`, finite, floating-point.

    Returns:
        float64 array of the length of the lesser of rows and columns,
        descending.

    Raises:
        SqueezeError: If it is no matrix.
        NonFiniteError: If a number is NaN or infinite.

    Example:
    >>> singular_values(np.array([[3.0, 0.0], [4.0, 0.0]]))
    array([5., 0.])
    """
    array, scale = _scaled(matrix)
    if min(array.shape) <= _EXACT:
        wide = array.astype(np.float64)
        return np.asarray(np.linalg.svd(wide, compute_uv=False)) * scale
    tall = array if array.shape[0] >= array.shape[1] else array.T
    # A Gram matrix has negative eigenvalues by rounding alone.
    squares = np.maximum(np.linalg.eigvalsh(_gram(tall))[::-1], 0.0)
    return np.asarray(np.sqrt(squares) * scale, np.float64)


def leading_vectors(matrix: NDArray[Any], rank: int, seed: int = 0) -> Matrix:
    """An orthonormal basis of the range that a matrix has most in.

    Args:
        matrix: Array of shape `(rows, columns)`, finite, floating-point.
        rank: Integer, at most the rows; it may be above the columns.
        seed: Integer. Of the random matrix. Defaults to `0`.

    Returns:
        float64 array of shape `(rows, rank)`, the vectors of the largest
        singular values first.

    Example:
    >>> abs(leading_vectors(np.array([[0.0], [2.0]]), rank=2))
    array([[0., 1.],
           [1., 0.]])
    """
    array, _ = _scaled(matrix)
    rows, columns = array.shape
    if rows > _EXACT and rank * _RANDOMIZED_SHARE <= min(rows, columns):
        return truncated_svd(array, rank, seed)[0]
    if rows <= columns:
        return _eigenvectors(_gram(array.T), rank)
    # Past the columns, any orthonormal vectors will do.
    mode: Literal["reduced", "complete"]
    mode = "complete" if rank > columns else "reduced"
    q, r = np.linalg.qr(array.astype(np.float64), mode=mode)
    q[:, :columns] = q[:, :columns] @ np.linalg.svd(r[:columns])[0]
    return np.ascontiguousarray(q[:, :rank])


def _scaled(matrix: NDArray[Any]) -> tuple[Array, float]:
    """The matrix with entries below two: no square over- or underflows."""
    array = working(matrix, "a matrix")
    if array.ndim != 2 or array.size == 0:
        raise SqueezeError(
            "Expected a matrix of at least one row and column. "
            f"Received: shape {array.shape}"
        )
    largest = float(np.abs(finite(array, "a matrix")).max())
    exponent = math.frexp(largest)[1] - 1 if largest else 0
    return np.ldexp(array, -exponent), math.ldexp(1.0, exponent)


def _tall(array: Array, rank: int, seed: int) -> tuple[Matrix, Matrix, Matrix]:
    """`truncated_svd` of a large matrix with no more columns than rows."""
    if rank * _RANDOMIZED_SHARE <= array.shape[1]:
        basis = _random_range(array, rank, seed)
        inner = _eigenvectors(_gram(array.T @ basis), rank)
        u = _with_columns(basis.astype(np.float64) @ inner, rank)
        v, s = _unit_columns(array.T @ u.astype(array.dtype))
    else:
        v = _eigenvectors(_gram(array), rank)
        u, s = _unit_columns(array @ v)
    order = np.argsort(-s, kind="stable")
    return u[:, order], s[order], np.ascontiguousarray(v.T[order])


def _with_columns(columns: Matrix, count: int) -> Matrix:
    """Zeros behind the columns: a range may have too few dimensions."""
    return np.pad(columns, ((0, 0), (0, count - columns.shape[1])))


def _unit_columns(columns: NDArray[Any]) -> tuple[Matrix, Matrix]:
    """Columns of length one, or zero where they have none, and lengths."""
    wide = columns.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=0)
    return wide / np.where(lengths > 0, lengths, 1.0), lengths


def _random_range(array: Array, rank: int, seed: int) -> Array:
    """An orthonormal basis of a range that holds the leading one.

    Iterating with re-orthonormalized blocks is the power method on all of
    them at once; weights have spectra too flat to go without.
    """
    width = min(rank + rank // 2 + 16, array.shape[1])
    random = np.random.default_rng(seed)
    start = random.standard_normal((array.shape[1], width), np.float32)
    total = float(np.square(array).sum(dtype=np.float64))
    basis, _ = _orthonormal(array @ start.astype(array.dtype, copy=False))
    kept = 0.0
    for _ in range(_MAX_ITERATIONS):
        last = kept
        back, kept = _orthonormal(array.T @ basis)
        if kept - last <= _GAIN * max(total - kept, 0.0) + _ROUNDING * total:
            break
        basis, _ = _orthonormal(array @ back)
    return np.asarray(np.linalg.qr(basis)[0])


def _orthonormal(columns: Array) -> tuple[Array, float]:
    """A basis of the columns' span, and the sum of their squares.

    It takes products alone, many times faster than Householder's way.
    """
    values, vectors = np.linalg.eigh(_gram(columns))
    real = values > _ROUNDING * values[-1:]
    turned = vectors[:, real] / np.sqrt(values[real])
    basis = columns @ turned.astype(columns.dtype)
    return np.asarray(basis), float(values.sum())


def _gram(tall: Array) -> Matrix:
    """`tall.T @ tall` in float64, without a copy of the whole in float64."""
    total = np.zeros((tall.shape[1],) * 2)
    for begin in range(0, len(tall), _BLOCK_ROWS):
        block = tall[begin : begin + _BLOCK_ROWS].astype(np.float64)
        total += block.T @ block
    return total


def _eigenvectors(gram: Matrix, rank: int) -> Matrix:
    """The eigenvectors of the largest eigenvalues, these first."""
    vectors = np.linalg.eigh(gram)[1]
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank])
