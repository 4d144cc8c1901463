"""How much a weight is expected to have changed: by row and by column.

A gradient is a sum of products of an input and an error, so weights of one
input change alike, and weights of one output. The expected change of a weight
is a power of the root of two for its row, times one for its column.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_squeeze.codecs.float_residual_units import STILL

_ROUNDS = 5
# What an exponent is taken to cost in the choice of axes, in bits.
_EXPONENT_BITS = 5.0
_TINY = 1e-290
_ROOT_OF_HALF = 0.7071067811865476


@dataclasses.dataclass(frozen=True)
class Steps:
    """Expected changes in half octaves.

    Args:
        rows: int64 array of shape `(rows, 1)` or `(1, 1)`.
        columns: int64 array of shape `(1, columns)` or `(1, 1)`.
    """

    rows: np.ndarray
    columns: np.ndarray

    def whole(self) -> np.ndarray:
        """The sums, `STILL` where nothing is expected to change."""
        total: np.ndarray = self.rows + self.columns
        still = (self.rows == STILL) | (self.columns == STILL)
        total[still] = STILL
        return total


def fit(changes: np.ndarray, counted: np.ndarray, places: np.ndarray) -> Steps:
    """Expected changes that make the changes cheap.

    Args:
        changes: float64 array of shape `(rows, columns)`.
        counted: Boolean array of that shape: which of them count.
        places: int64 array of that shape, exponents of the last places that
            are coded.

    Returns:
        `Steps`, for the axes that are worth their exponents.
    """
    squares = np.where(counted, changes, 0.0) ** 2
    found = [
        _fit(squares, counted, by_rows, by_columns)
        for by_rows in (False, True)
        for by_columns in (False, True)
        if (not by_rows or len(squares) > 1)
        and (not by_columns or squares.shape[1] > 1)
    ]
    costs = [_cost(steps, squares, counted, places) for steps in found]
    return found[int(np.argmin(costs))]


def _fit(
    squares: np.ndarray, counted: np.ndarray, by_rows: bool, by_columns: bool
) -> Steps:
    rows, columns = squares.shape
    of_row = np.ones((rows if by_rows else 1, 1))
    of_column = np.ones((1, columns if by_columns else 1))
    for _ in range(_ROUNDS if by_rows and by_columns else 1):
        if by_rows or not by_columns:
            of_row = _mean(squares / of_column, counted, by_rows, 1)
        if by_columns:
            of_column = _mean(squares / of_row, counted, True, 0)
    return Steps(_half_octaves(of_row), _half_octaves(of_column))


def _mean(
    squares: np.ndarray, counted: np.ndarray, apart: bool, axis: int
) -> np.ndarray:
    over = axis if apart else None
    total = squares.sum(axis=over, keepdims=True)
    count = counted.sum(axis=over, keepdims=True)
    # Still rows divide nothing by zero; `_half_octaves` knows them again.
    means: np.ndarray = np.maximum(total / np.maximum(count, 1), _TINY)
    return means


def _half_octaves(means: np.ndarray) -> np.ndarray:
    # The nearest power of two, without a logarithm that machines round apart.
    parts, exponents = np.frexp(means)
    found: np.ndarray = exponents.astype(np.int64) - (parts < _ROOT_OF_HALF)
    found[means <= 1e6 * _TINY] = STILL
    return found


def _cost(
    steps: Steps,
    squares: np.ndarray,
    counted: np.ndarray,
    places: np.ndarray,
) -> float:
    """About how many bits the changes and the exponents need."""
    expected = np.broadcast_to(steps.whole(), squares.shape)
    alive = counted & (expected != STILL)
    spread = expected[alive].astype(np.float64)
    bits = np.maximum(spread / 2 - places[alive] + 2, 0).sum()
    bits += 0.72 * (squares[alive] * np.ldexp(1.0, -expected[alive])).sum()
    return float(bits) + _EXPONENT_BITS * (steps.rows.size + steps.columns.size)
