"""Alternating least squares for sums of separable terms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_SWEEPS = 40
_GAIN = 1e-4
# The share of the mean square at which each step holds to the last factor.
_DAMPING = 1e-4


def alternating_least_squares(
    tensor: NDArray[np.float64], start: tuple[Matrix, ...]
) -> tuple[Matrix, ...]:
    """Improves a sum of separable terms, one axis after the other.

    Each step is the least-squares solution for one axis, damped towards the
    last one: the error never grows, and terms that cancel out do not run
    away.

    Args:
        tensor: float64 array of three axes.
        start: Tuple of float64 arrays `(length, terms)`, one an axis.

    Returns:
        Tuple of arrays of the same shapes; the columns of a term have one
        norm in all three.

    Example:
    >>> ones = tuple(np.ones((n, 1)) for n in (2, 3, 4))
    >>> found = alternating_least_squares(np.full((2, 3, 4), 8.0), ones)
    >>> [float(factor[0, 0].round(3)) for factor in found]
    [2.402, 1.961, 1.698]

    References:
        [Kolda and Bader, 2009](https://doi.org/10.1137/07070111X)
        [Navasca et al., 2008](https://arxiv.org/abs/0801.1800)
    """
    factors = list(start)
    energy = float(np.vdot(tensor, tensor))
    error = energy
    for _ in range(_SWEEPS):
        for axis in range(3):
            factors[axis], inner = _solved(tensor, factors, axis)
        factors = _evened(factors)
        grams = [factor.T @ factor for factor in factors]
        last = error
        error = (
            energy - 2 * inner + float((grams[0] * grams[1] * grams[2]).sum())
        )
        if last - error <= _GAIN * max(error, 0.0) + 1e-13 * energy:
            break
    return tuple(factors)


def _solved(
    tensor: NDArray[np.float64], factors: list[Matrix], axis: int
) -> tuple[Matrix, float]:
    """The factor of one axis, and the product's overlap with the tensor."""
    first, second = (factors[at] for at in range(3) if at != axis)
    moved = np.moveaxis(tensor, axis, 0)
    # Along the longer axis as a product of matrices: the table of all terms
    # at all places would not fit into memory.
    if moved.shape[1] > moved.shape[2]:
        moved, first, second = moved.swapaxes(1, 2), second, first
    seen = np.einsum("xyr,yr->xr", moved @ second, first)
    gram = (first.T @ first) * (second.T @ second)
    damping = _DAMPING * gram.trace() / len(gram) or 1.0
    damped = gram + damping * np.eye(len(gram))
    solved = np.linalg.solve(damped, (seen + damping * factors[axis]).T).T
    return solved, float(np.vdot(solved, seen))


def _evened(factors: list[Matrix]) -> list[Matrix]:
    """Columns of the terms with one norm, their geometric mean, in all."""
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in factors])
    mean = np.cbrt(norms.prod(axis=0))
    scales = mean / np.where(norms > 0, norms, 1.0)
    return [each * scale for each, scale in zip(factors, scales, strict=True)]
