"""Where a tensor is going: its last step, continued.

An optimizer with momentum goes on as it came, so the change from a base to
the next checkpoint resembles the one that led to the base. How much of that
change is expected once more is said for every column of a tensor, its last
axis; a row, all other axes, goes on or stands still.

Layout, before what the part's codec writes: a list of booleans, the rows
that go on, and a list of int8, sixteenths for the columns, both as
`float_residual_sections` describes lists. An array of one dimension is one
column.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.float_residual_sections import read_list, write_list

_PARTS = 16
_LEAST, _MOST = -_PARTS, 2 * _PARTS
# Fewer rows say little of each column.
_ROWS_A_COLUMN = 16
_PIECE = 1 << 18


@dataclasses.dataclass(frozen=True)
class Momentum:
    """How much of the last step is expected once more.

    Args:
        rows: Boolean array of shape `(rows,)`.
        columns: int8 array of shape `(columns,)`, in sixteenths.
    """

    rows: np.ndarray
    columns: np.ndarray

    def to_bytes(self) -> bytes:
        """The layout above."""
        return write_list(self.rows) + write_list(self.columns)

    def extrapolate(self, now: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Where values would be.

        Args:
            now: Array of floats.
            before: Array of the same shape and dtype.

        Returns:
            Array of that shape and dtype; computed in float64. Where that is
            not finite, it is `now`.
        """
        out = np.array(now, order="C")
        matrix = out.reshape(matrix_shape(now.shape))
        share = self.columns.astype(np.float64) / _PARTS
        for piece, new, old in _pieces(now, before):
            step = (new - old) * share
            step[~self.rows[piece]] = 0
            with np.errstate(over="ignore", invalid="ignore"):
                there = (new + step).astype(out.dtype)
            good = np.isfinite(there.astype(np.float64))
            matrix[piece][good] = there[good]
        return out


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor.

    Example:
    >>> matrix_shape((3, 3, 8, 16)), matrix_shape((5,))
    ((72, 16), (5, 1))
    """
    columns = shape[-1] if len(shape) > 1 else 1
    rows = math.prod(shape[:-1]) if len(shape) > 1 else math.prod(shape)
    return rows, columns


def fit_momentum(
    values: np.ndarray, now: np.ndarray, before: np.ndarray
) -> Momentum | None:
    """The momentum that comes nearest to values, by least squares.

    Args:
        values: Array of floats.
        now: Array of the same shape.
        before: Array of the same shape.

    Returns:
        `Momentum`, or `None` if nothing goes on.
    """
    rows, columns = matrix_shape(now.shape)
    wanted = np.ascontiguousarray(values).reshape(rows, columns)
    power, product = np.zeros(columns), np.zeros(columns)
    alive = np.zeros(rows, bool)
    for piece, new, old in _pieces(now, before):
        with np.errstate(over="ignore", invalid="ignore"):
            last, then = new - old, wanted[piece].astype(np.float64) - new
            power += (last * last).sum(axis=0)
            product += (last * then).sum(axis=0)
        alive[piece] = then.any(axis=1)
    if rows < _ROWS_A_COLUMN:
        power[:], product[:] = power.sum(), product.sum()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = product / power
    share[~np.isfinite(share)] = 0
    found = np.clip(np.rint(share * _PARTS), _LEAST, _MOST).astype(np.int8)
    return Momentum(alive, found) if found.any() and alive.any() else None


def read_momentum(cursor: ByteCursor, shape: tuple[int, ...]) -> Momentum:
    """Reads what `Momentum.to_bytes` wrote, for a tensor of that shape."""
    rows, columns = matrix_shape(shape)
    alive = read_list(cursor, rows, np.bool_)
    return Momentum(alive, read_list(cursor, columns, np.int8))


def _pieces(
    *arrays: np.ndarray,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows of two arrays in float64, some at a time."""
    rows, columns = matrix_shape(arrays[0].shape)
    first, second = (
        np.ascontiguousarray(a).reshape(rows, columns) for a in arrays
    )
    step = max(_PIECE // max(columns, 1), 1)
    for start in range(0, rows if columns else 0, step):
        piece = slice(start, start + step)
        yield (
            piece,
            first[piece].astype(np.float64),
            second[piece].astype(np.float64),
        )
