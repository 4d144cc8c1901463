"""What tables of `class_rans` and their payload are expected to take.

Only the encoder comes here: it decides sizes, never validity. All lengths are
multiples of `2**-16` bits, so that sums are exact; see `logarithms`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import class_rans_family
from keras_squeeze.codecs.class_rans_contexts import MAX_CLASSES, MAX_TABLES
from keras_squeeze.codecs.class_rans_table import Alphabet
from keras_squeeze.codecs.logarithms import log2_of, n_log_n

# What a table takes besides its payload, in bits.
_PARAMETRIC_BITS = 12
_WITH_ZERO_BITS = 24
_EXPLICIT_BITS = 14
_EXPLICIT_TOKEN_BITS = 222822 / 65536  # about 3.4
_MERGES = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Widths:
    """A partition of sums of exponents into scale classes.

    Args:
        classes: Integer in 2..16.
        merge: Integer in 0..2. The logarithm of how many sums share a class.
        start: Integer. The sum from which on classes are counted.
    """

    classes: int
    merge: int
    start: int


class Estimator:
    """What payload and tables are expected to take, for one alphabet.

    Estimates are begun one by one and ended together, for a product of all
    counts with all distributions costs little more than that of a few.

    Args:
        alphabet: `Alphabet`.
    """

    def __init__(self, alphabet: Alphabet) -> None:
        self.alphabet = alphabet
        self._begun: list[_Parts] = []

    def take(self, counts: np.ndarray) -> None:
        """Begins an estimate.

        Args:
            counts: int64 array of shape `(rows, tables, tokens)`, each row
                being the tables of one class.
        """
        histogram = counts.reshape(-1, self.alphabet.tokens)
        last = int(np.flatnonzero(histogram.any(1))[-1])
        self._begun.append(_parts_of(histogram[: last + 1], self.alphabet))

    def partitions(self, counts: np.ndarray, least: int) -> list[Widths]:
        """Begins estimates of several partitions into scale classes.

        Args:
            counts: int64 array of shape `(sums, tables, tokens)`, by the sum
                of exponents.
            least: Integer, the first of these sums.

        Returns:
            List of `Widths`, an estimate each.
        """
        found = list(_widths(counts, least))
        for widths in found:
            sums = np.arange(len(counts)) + (least - widths.start)
            highest = (widths.classes << widths.merge) - 1
            classes = np.clip(sums, 0, highest) >> widths.merge
            merged = np.zeros((widths.classes, *counts.shape[1:]), np.int64)
            np.add.at(merged, classes, counts)
            self.take(merged)
        return found

    def finish(self) -> list[float]:
        """Ends all estimates.

        Returns:
            List of floats, the bits of each, in the order they were begun.
        """
        begun, self._begun = self._begun, []
        if not begun:
            return []
        folded = np.concatenate([parts.folded for parts in begun])
        reach = int(np.flatnonzero(folded.any(0)).max(initial=0)) + 1
        bits = class_rans_family.expected_bits(
            folded[:, :reach], coarse_lengths()
        )
        edges = np.cumsum([len(parts.folded) for parts in begun])[:-1]
        rows = bits.shape[1] // 2
        return [
            _least_bits(parts, own[:, :rows].min(1), own[:, rows:].min(1))
            for parts, own in zip(begun, np.split(bits, edges), strict=True)
        ]


def _widths(counts: np.ndarray, least: int) -> Iterator[Widths]:
    sums = np.cumsum(counts.sum((1, 2)))
    # Between these lie the exponents that most weights have.
    low = int(np.searchsorted(sums, 0.01 * sums[-1]))
    high = int(np.searchsorted(sums, 0.99 * sums[-1]))
    width = high - low + 1
    for merge in _MERGES:
        count = min(width + (1 << merge) - 1 >> merge, MAX_CLASSES)
        if count < 2:
            return
        if count * counts.shape[1] <= MAX_TABLES:
            spare = (width - (count << merge)) // 2
            yield Widths(count, merge, least + low + spare)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """An estimate that was begun.

    Args:
        explicit: float64 array, what explicit tables and their payload take.
        split: float64 array, what telling zeros from others takes.
        folded: float64 array of shape `(tables, plain)`, counts by distance.
        last: Integer. How many tables there are, the empty ones included.
    """

    explicit: np.ndarray
    split: np.ndarray
    folded: np.ndarray
    last: int


def _parts_of(histogram: np.ndarray, alphabet: Alphabet) -> _Parts:
    used = histogram[histogram.any(1)].astype(np.float64)
    totals = used.sum(1)
    whole = n_log_n(totals)
    explicit = whole - n_log_n(used).sum(1) + _EXPLICIT_BITS
    explicit += _EXPLICIT_TOKEN_BITS * (used > 1).sum(1)
    # A token seen once is left out of the table and escaped.
    explicit += 3.0 * (used == 1).sum(1)
    folded = _folded(used, totals, alphabet)
    twice = np.clip(2 * folded[:, 0], 1, 2 * totals - 1)
    split = whole - twice / 2 * (log2_of(twice) - 1)
    rest = 2 * totals - twice
    split -= rest / 2 * (log2_of(rest) - 1)
    return _Parts(explicit, split, folded, len(histogram))


def _folded(
    used: np.ndarray, totals: np.ndarray, alphabet: Alphabet
) -> np.ndarray:
    """Counts by distance to the centre that the mean suggests; float64."""
    size = alphabet.plain
    columns = np.arange(size)
    # The mean tells how far a neighbour pushes a distribution aside.
    means = (used[:, :size] * columns).sum(1) / totals
    centers = np.where(
        np.abs(means - alphabet.center) < 0.5, alphabet.center, np.rint(means)
    )
    distances = np.abs(columns - centers[:, None]).astype(np.int64)
    cells = np.arange(len(used))[:, None] * size + distances
    folded = np.bincount(
        cells.reshape(-1), used[:, :size].reshape(-1), len(used) * size
    )
    return folded.reshape(len(used), size)


def _least_bits(parts: _Parts, named: np.ndarray, apart: np.ndarray) -> float:
    """Each table in the way that takes least; an empty one takes 2 bits."""
    parametric = np.minimum(
        named + _PARAMETRIC_BITS, (apart + parts.split) + _WITH_ZERO_BITS
    )
    best = np.minimum(parts.explicit, parametric).sum()
    return float(best) + 2 * (parts.last - len(parts.explicit))


@functools.cache
def coarse_lengths() -> np.ndarray:
    """Some of the family: with zeros, then without; float64."""
    rows = np.arange(class_rans_family.SCALES * class_rans_family.SHAPES)
    scale, shape = divmod(rows, class_rans_family.SHAPES)
    chosen = (scale % 3 == 0) & np.isin(shape, (0, 3, 7)) & (scale < 90)
    whole, nonzero = class_rans_family.code_lengths()
    return np.concatenate([whole[chosen], nonzero[chosen]])
