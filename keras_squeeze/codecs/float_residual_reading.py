"""Reading a block of `float_residual`, which describes it."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs import float_residual_units as units_
from keras_squeeze.codecs.batch import decode_all
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.float_residual_sections import (
    find_list,
    read_bits,
    read_list,
)
from keras_squeeze.codecs.float_residual_tokens import (
    MOST_KEPT,
    Levels,
    from_symbols,
    levels,
    split_tokens,
)
from keras_squeeze.codecs.float_residual_units import STILL, Grid
from keras_squeeze.codecs.float_residual_writing import (
    COLUMNS,
    NOTHING,
    ROWS,
    ZEROS,
)

_MOST_GUARD = 53
_FARTHEST = 1 << 14


@dataclasses.dataclass(frozen=True)
class _Header:
    kept: int
    flags: int
    grid: Grid
    guard: int


def decode_block(cursor: ByteCursor, base: np.ndarray) -> np.ndarray:
    """Decodes a matrix of floats.

    Args:
        cursor: `ByteCursor` at the first byte of the block.
        base: Array of two dimensions, finite.

    Returns:
        Array of the base's shape and dtype.

    Raises:
        CorruptArtifactError: If the bytes are damaged.
    """
    header = _read_header(cursor, base.dtype)
    here = dtypes.bit_patterns(base) != 0
    if header.flags & ZEROS:
        here ^= read_list(cursor, here.size, np.bool_)
    steps = _read_steps(cursor, header.flags, base.shape)[here]
    old = base.astype(np.float64).reshape(-1)[here]
    units = header.grid.units(old, steps, header.guard)
    sizes, rest = _read_tokens(cursor, header, levels(steps, units))
    signs = _read_signs(cursor, sizes) ^ (old < 0)
    sizes = (sizes << rest) | read_bits(cursor, rest).astype(np.int64)
    numbers = units_.in_units(old, units)
    if numbers is None:
        raise cursor.fail("units that fit the base", "smaller ones")
    numbers += np.where(signs, -sizes, sizes)
    widths = units_.tail_widths(numbers, units, header.grid)
    values = units_.from_units(
        numbers, read_bits(cursor, widths), units, widths
    )
    found = _patterns(cursor, values, numbers == 0, base.dtype)
    patterns = np.zeros(here.size, found.dtype)
    patterns[here] = found
    return dtypes.from_bit_patterns(patterns, base.shape, base.dtype)


def _read_header(cursor: ByteCursor, dtype: np.dtype[np.float64]) -> _Header:
    first, trim, guard = cursor.byte(), cursor.byte(), cursor.byte()
    kept = first & 3
    known = 3 | ROWS | COLUMNS | ZEROS | NOTHING
    if kept > MOST_KEPT or first & ~known:
        raise cursor.fail("flags that are known", first)
    most = units_.FORMATS[dtype.name][0] - 1
    if trim > most or not 1 <= guard <= _MOST_GUARD:
        raise cursor.fail(f"a trim of at most {most}, a guard", (trim, guard))
    return _Header(kept, first, units_.grid_of(dtype, trim), guard)


def _read_steps(
    cursor: ByteCursor, flags: int, shape: tuple[int, ...]
) -> np.ndarray:
    """The expected changes of all weights, one-dimensional."""
    rows, columns = shape
    if flags & NOTHING:
        return np.full(rows * columns, STILL, np.int64)
    total = np.full(shape, cursor.signed_varint(-_FARTHEST, _FARTHEST))
    still = np.zeros(shape, bool)
    for flag, size, form in (
        (ROWS, rows, (-1, 1)),
        (COLUMNS, columns, (1, -1)),
    ):
        if flags & flag:
            axis = read_list(cursor, size, np.uint16).astype(np.int64)
            total += (axis - 1).reshape(form)
            still |= (axis == 0).reshape(form)
    total[still] = STILL
    return total.reshape(-1)


def _read_tokens(
    cursor: ByteCursor, header: _Header, known: Levels
) -> tuple[np.ndarray, np.ndarray]:
    """The leading bits of sizes, and the widths of the rest."""
    places = list(known.places())
    items = [find_list(cursor, at.size, np.uint16) for _, at in places]
    tokens = np.zeros(known.group.size, np.int64)
    for (high, at), symbols in zip(places, decode_all(items), strict=True):
        tokens[at] = (
            from_symbols(symbols, known.octave[at], header.kept, header.guard)
            if high
            else symbols
        )
    return split_tokens(tokens, header.kept)


def _read_signs(cursor: ByteCursor, leading: np.ndarray) -> np.ndarray:
    changed = leading != 0
    signs = np.zeros(leading.size, bool)
    count = int(np.count_nonzero(changed))
    signs[changed] = read_list(cursor, count, np.bool_)
    return signs


def _patterns(
    cursor: ByteCursor,
    values: np.ndarray,
    lost: np.ndarray,
    dtype: np.dtype[np.float64],
) -> np.ndarray:
    """The bit patterns of weights; those of 0 units are stored."""
    with np.errstate(over="ignore", under="ignore"):
        patterns = dtypes.bit_patterns(values.astype(dtype))
    stored = cursor.take(int(np.count_nonzero(lost)) * dtype.itemsize)
    patterns[lost] = np.frombuffer(stored, f"<u{dtype.itemsize}")
    return patterns
