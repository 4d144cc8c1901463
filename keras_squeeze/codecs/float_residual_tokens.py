"""Differences as tokens, and which table codes a token.

A token is a difference's size: up to the leading bit and some bits after it.
How large it will be is known in half octaves, from the expected change and
the unit; that is its *level*. Low levels, where a difference is a few units
or none, have tables of their own. Of high ones only the distance to the
expected size matters, so they share two tables, for whole and half octaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from keras_squeeze.codecs.float_residual_units import STILL, bit_lengths
from keras_squeeze.errors import CorruptArtifactError

#: Most bits after the leading one that a token holds.
MOST_KEPT = 2
#: The longest difference in bits.
MOST_BITS = 62

_LOWEST, _HIGH = -8, 8
_HIGH_GROUP = 1 + _HIGH - _LOWEST
_GROUPS = _HIGH_GROUP + 2
# Fewer weights than this do not pay for a table.
_LEAST = 160


@dataclasses.dataclass(frozen=True)
class Levels:
    """What is known of the sizes of differences before they are read.

    Args:
        group: int8 array, the table of every weight.
        octave: int64 array, what tokens of high groups are relative to.
        groups: Tuple of integers, the groups that have weights.
    """

    group: np.ndarray
    octave: np.ndarray
    groups: tuple[int, ...]

    def places(self) -> Iterator[tuple[bool, np.ndarray]]:
        """For every group whether it is a high one, and its weights."""
        for group in self.groups:
            yield group >= _HIGH_GROUP, np.flatnonzero(self.group == group)


def levels(steps: np.ndarray, units: np.ndarray) -> Levels:
    """The levels of weights, one-dimensional.

    Args:
        steps: int64 array, expected changes in half octaves.
        units: int64 array of exponents.

    Returns:
        `Levels`.
    """
    level = steps - 2 * units
    group = np.clip(level, _LOWEST, _HIGH) - _LOWEST + 1
    high = level >= _HIGH
    group[high] = _HIGH_GROUP + (level[high] & 1)
    group[steps == STILL] = 0
    merged = _merge(np.bincount(group, minlength=_GROUPS))[group]
    used = np.flatnonzero(np.bincount(merged, minlength=_GROUPS))
    octave = np.where(high, level >> 1, 0)
    return Levels(merged.astype(np.int8), octave, tuple(used.tolist()))


def _merge(counts: np.ndarray) -> np.ndarray:
    """Which group every group joins, so that none is too small."""
    joined = np.arange(_GROUPS)
    first, gathered = 1, 0
    for group in range(1, _HIGH_GROUP):
        joined[group] = first
        gathered += int(counts[group])
        if gathered >= _LEAST:
            first, gathered = group + 1, 0
    if gathered < _LEAST and 1 < first < _HIGH_GROUP:
        joined[joined == first] = joined[first - 1]
    if counts[_HIGH_GROUP:].sum() < 2 * _LEAST:
        joined[_HIGH_GROUP + 1] = _HIGH_GROUP
    return joined


def tokens_of(sizes: np.ndarray, kept: int) -> np.ndarray:
    """Tokens of sizes, with `kept` bits after the leading one.

    Example:
    >>> tokens_of(np.array([0, 1, 2, 3, 4, 5, 6, 8]), 1).tolist()
    [0, 1, 2, 3, 4, 4, 5, 6]
    """
    rest = rest_widths_of(sizes, kept)
    tokens: np.ndarray = (sizes >> rest) + (rest << kept)
    return tokens


def rest_widths_of(sizes: np.ndarray, kept: int) -> np.ndarray:
    """How many bits of sizes their tokens do not hold."""
    widths: np.ndarray = np.maximum(bit_lengths(sizes) - 1 - kept, 0)
    return widths


def split_tokens(
    tokens: np.ndarray, kept: int
) -> tuple[np.ndarray, np.ndarray]:
    """What a token says: the leading bits, and the width of the rest.

    Args:
        tokens: int64 array of whole numbers of at least 0.
        kept: Integer.

    Returns:
        Pair of int64 arrays: `sizes >> rest`, and `rest`.

    Raises:
        CorruptArtifactError: If a token is too large.
    """
    one = 1 << kept
    rest = np.maximum((tokens >> kept) - 1, 0)
    if rest.size and int(rest.max()) > MOST_BITS - 1 - kept:
        raise CorruptArtifactError(
            f"Expected differences of at most {MOST_BITS} bits. "
            f"Received: {int(rest.max()) + 1 + kept} bits"
        )
    return np.where(tokens < 2 * one, tokens, one + tokens % one), rest


def to_symbols(
    tokens: np.ndarray, octaves: np.ndarray, kept: int, guard: int
) -> np.ndarray:
    """Tokens of a high group beside what is expected; 0 stays 0."""
    moved = tokens + (guard - octaves << kept)
    return np.where(tokens == 0, 0, moved).astype(np.uint16)


def from_symbols(
    symbols: np.ndarray, octaves: np.ndarray, kept: int, guard: int
) -> np.ndarray:
    """Undoes `to_symbols`.

    Raises:
        CorruptArtifactError: If a symbol stands for no token.
    """
    moved = symbols.astype(np.int64) - (guard - octaves << kept)
    tokens = np.where(symbols == 0, 0, moved)
    if tokens.size and int(tokens.min()) < 0:
        raise CorruptArtifactError(
            "Expected symbols of differences. "
            f"Received: one that is {-int(tokens.min())} too small"
        )
    return tokens
