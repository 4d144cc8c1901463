"""The bytes of a block of `float_residual`, which describes them."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs import float_residual_units as units_
from keras_squeeze.codecs.byte_cursor import signed_varint
from keras_squeeze.codecs.float_fields_split import common_zeros
from keras_squeeze.codecs.float_residual_sections import write_bits, write_list
from keras_squeeze.codecs.float_residual_steps import Steps, fit
from keras_squeeze.codecs.float_residual_tokens import (
    MOST_BITS,
    MOST_KEPT,
    Levels,
    levels,
    rest_widths_of,
    to_symbols,
    tokens_of,
)
from keras_squeeze.codecs.float_residual_units import STILL, Grid
from keras_squeeze.codecs.rans import entropy_bits

ROWS, COLUMNS, ZEROS, NOTHING = 1 << 2, 1 << 3, 1 << 4, 1 << 5

# What a symbol costs in a table, about.
_SYMBOL_BITS = 7
# Changes whose squares' sum is still a float.
_FARTHEST = 1e150
# Larger blocks are not tried with fewer kept bits: tables cost nothing there.
_TRIED = 1 << 16


@dataclasses.dataclass(frozen=True)
class _Differences:
    """Weights that are not zero, as differences of numbers of units."""

    guard: int
    levels: Levels
    signs: np.ndarray
    sizes: np.ndarray
    tails: np.ndarray
    widths: np.ndarray
    lost: np.ndarray

    def rest_widths(self, kept: int) -> np.ndarray:
        """The widths of the bits that are not modelled."""
        widths: np.ndarray = rest_widths_of(self.sizes, kept) + self.widths
        return widths

    def symbols(self, kept: int) -> list[np.ndarray]:
        """The symbols of each group."""
        tokens, octave = tokens_of(self.sizes, kept), self.levels.octave
        return [
            to_symbols(tokens[at], octave[at], kept, self.guard)
            if high
            else tokens[at].astype(np.uint16)
            for high, at in self.levels.places()
        ]

    def estimate(self, kept: int, precision: int) -> float:
        """About how many bits they will need, without the signs."""
        bits = int(self.rest_widths(kept).sum())
        total = float(bits + precision * np.count_nonzero(self.lost))
        for symbols in self.symbols(kept):
            counts = np.bincount(symbols)
            used = int(np.count_nonzero(counts))
            total += entropy_bits(counts) + _SYMBOL_BITS * used
        return total


def encode_block(array: np.ndarray, base: np.ndarray) -> bytes | None:
    """Codes a matrix of floats against another one.

    Args:
        array: Array of two dimensions, finite.
        base: Array of the same shape and dtype, finite.

    Returns:
        Bytes, or `None` if the two are too far apart.
    """
    patterns, of_base = dtypes.bit_patterns(array), dtypes.bit_patterns(base)
    here = patterns != 0
    moved = here != (of_base != 0)
    trim = _trim(patterns, of_base, array.dtype)
    grid = units_.grid_of(array.dtype, trim)
    new = array.astype(np.float64).reshape(-1)
    old = base.astype(np.float64).reshape(-1)
    with np.errstate(over="ignore"):
        changes = (new - old).reshape(array.shape)
    if array.size and not float(np.abs(changes).max()) < _FARTHEST:
        return None
    steps = fit(
        changes,
        here.reshape(array.shape),
        grid.last_places(old).reshape(array.shape),
    )
    expected = np.broadcast_to(steps.whole(), array.shape).reshape(-1)
    found = _differences(new[here], old[here], expected[here], grid)
    if found is None:
        return None
    most = MOST_KEPT if array.size > _TRIED else 0
    _, _, kept, chosen = min(
        (each.estimate(kept, grid.precision), place, kept, each)
        for place, each in enumerate(found)
        for kept in range(most, MOST_KEPT + 1)
    )
    sections, flags = _write_steps(steps)
    if moved.any():
        sections.insert(0, write_list(moved))
        flags |= ZEROS
    header = bytes([kept | flags, trim, chosen.guard])
    lost = patterns[here][chosen.lost]
    body = _write(chosen, kept)
    return b"".join(
        [header, *sections, *body, dtypes.little_endian_bytes(lost)]
    )


def _trim(
    patterns: np.ndarray, of_base: np.ndarray, dtype: np.dtype[np.float64]
) -> int:
    mantissa = units_.FORMATS[dtype.name][0] - 1
    return min(common_zeros(each, mantissa) for each in (patterns, of_base))


def _differences(
    new: np.ndarray, old: np.ndarray, steps: np.ndarray, grid: Grid
) -> list[_Differences] | None:
    """The differences for each guard that is worth a try."""
    found = []
    for guard in sorted({max(grid.precision - back, 1) for back in (1, 4)}):
        units = grid.units(old, steps, guard)
        numbers = units_.in_units(new, units)
        from_base = units_.in_units(old, units)
        if numbers is None or from_base is None:
            return None
        change = numbers - from_base
        if change.size and int(np.abs(change).max()) >> MOST_BITS:
            return None
        widths = units_.tail_widths(numbers, units, grid)
        signs = ((change < 0) != (old < 0))[change != 0]
        found.append(
            _Differences(
                guard,
                levels(steps, units),
                signs,
                np.abs(change),
                units_.tails(new, numbers, units, widths),
                widths,
                numbers == 0,
            )
        )
    return found


def _write(found: _Differences, kept: int) -> list[bytes]:
    rest = rest_widths_of(found.sizes, kept)
    noise = (found.sizes & ((1 << rest) - 1)).astype(np.uint64)
    return [
        *(write_list(symbols) for symbols in found.symbols(kept)),
        write_list(found.signs),
        write_bits(noise, rest),
        write_bits(found.tails, found.widths),
    ]


def _write_steps(steps: Steps) -> tuple[list[bytes], int]:
    axes = [steps.rows.reshape(-1), steps.columns.reshape(-1)]
    if any((axis == STILL).all() for axis in axes):
        return [], NOTHING
    if steps.rows.size == steps.columns.size == 1:
        return [signed_varint(int(axes[0][0] + axes[1][0]))], 0
    flags, lists, least = 0, [], 0
    for axis, flag in zip(axes, (ROWS, COLUMNS), strict=True):
        low = int(axis[axis != STILL].min())
        least += low
        if axis.size > 1:
            flags |= flag
            above = np.where(axis == STILL, 0, axis - low + 1)
            lists.append(write_list(above.astype(np.uint16)))
    return [signed_varint(least), *lists], flags
