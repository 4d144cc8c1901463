"""Finding the split and the classes that make an array of floats smallest.

All choices are compared by what they would cost, computed from histograms of
the finest symbols; a coarser split merges columns of a histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from keras_squeeze.codecs.blocks import blocks, count_values, tiles
from keras_squeeze.codecs.float_fields_classes import (
    MAX_CLASSES,
    Alphabet,
    ClassModel,
    Neighbours,
    halves,
    pair_sums,
    part_of,
)
from keras_squeeze.codecs.float_fields_palette import Palette
from keras_squeeze.codecs.float_fields_split import (
    Split,
    common_zeros,
    heads,
    magnitudes,
)
from keras_squeeze.codecs.logarithms import log2_of, n_log_n
from keras_squeeze.codecs.rans_table import MAX_SPAN

_MOST_KEPT = 4
# What a table costs, a symbol and a class: measured on trained weights.
_SYMBOL_BITS = 2.0
_CLASS_BITS = 56.0
_LANE_BITS = 24.0
_LANE_SYMBOLS = 4096
# Below this many elements tables for classes never paid.
_MIN_CLASSIFIED = 512
_MIN_AXIS = 3
_OCTAVES = (4.0, 2.0, 1.0, 0.5, 0.25)
_MOST_OCTAVES = 12.0
_NEIGHBOUR_CLASSES = 16
_USUAL = 0.999
_LOW = 0.01
_FREE_COUNTS = 1 << 20


class _Candidate(NamedTuple):
    model: ClassModel
    histogram: np.ndarray
    side_bits: float


def choose(
    patterns: np.ndarray, mantissa: int, palette: Palette | None, spent: int
) -> tuple[Alphabet, ClassModel]:
    """The cheapest way to code an array.

    Args:
        patterns: Unsigned array of the tensor's shape, with elements.
        mantissa: Integer. The mantissa bits of the floats.
        palette: Optional `Palette` of the array.
        spent: Integer. The bits that writing the palette takes.

    Returns:
        The split, with the least head of the array, or the palette; and the
        classes.
    """
    cost, split, model = _best_split(patterns, mantissa)
    if palette is not None:
        symbols = palette.symbols(patterns)
        width = palette.symbol_limit
        for candidate in _candidates(symbols, palette, width):
            total = spent + candidate.side_bits + _cost(candidate.histogram)
            if total < cost:
                cost, split, model = total, palette, candidate.model
    return _finish(patterns, split, model)


def _best_split(
    patterns: np.ndarray, mantissa: int
) -> tuple[float, Alphabet, ClassModel]:
    finest = _finest(patterns, mantissa)
    symbols = finest.symbols(patterns)
    # Room for whole exponents, besides the two zeros.
    whole = 2 << finest.kept
    width = 2 - (1 - int(symbols.max())) // whole * whole
    splits = list(_splits(finest, width))
    best = float("inf"), splits[0], ClassModel()
    for candidate in _candidates(symbols, finest, width):
        for split in splits:
            if candidate.model.neighbours is not None and not split.signed:
                continue
            merged = _merge(candidate.histogram, finest, split)
            cost = candidate.side_bits + _cost(merged) + _tails(merged, split)
            if cost < best[0]:
                best = cost, split, candidate.model
        # What is best without classes is nearly best with them.
        splits = [split for split in splits if _is_near(split, best[1])]
    return best


def _finest(patterns: np.ndarray, mantissa: int) -> Split:
    trim = common_zeros(patterns, mantissa)
    kept = min(_MOST_KEPT, mantissa - trim)
    # Whole exponents, so that coarser splits have the same borders.
    low = _least_head(patterns, mantissa - kept) >> kept << kept
    return Split(8 * patterns.itemsize, mantissa, kept, True, low, trim)


def _least_head(
    patterns: np.ndarray, rest: int, but_zeros: bool = False
) -> int:
    """The least head of all, or of all but zeros; 0 if there is none."""
    flat, found = patterns.reshape(-1), []
    for block in blocks(flat.size):
        part = flat[block]
        if but_zeros:
            part = part[magnitudes(part) != 0]
        if part.size:
            found.append(int(heads(part, rest).min()))
    return min(found, default=0)


def _splits(finest: Split, width: int) -> Iterator[Split]:
    for kept in range(finest.kept + 1):
        low = finest.low >> finest.kept - kept
        for signed in (False, True):
            if width >> (finest.kept - kept) + (not signed) < MAX_SPAN:
                yield replace(finest, kept=kept, low=low, signed=signed)


def _is_near(split: Split, best: Split) -> bool:
    return abs(split.kept - best.kept) <= 1 and split.signed >= best.signed


def _candidates(
    symbols: np.ndarray, finest: Alphabet, width: int
) -> Iterator[_Candidate]:
    single = np.zeros(symbols.shape, np.uint8)
    yield _Candidate(ClassModel(), _histogram(symbols, single, 1, width), 0.0)
    if symbols.size < _MIN_CLASSIFIED:
        return
    yield from _scaled(symbols, finest, width)
    least = _NEIGHBOUR_CLASSES
    for axis, length in enumerate(symbols.shape):
        if length >= _MIN_AXIS and _most_classes(symbols, width) > least:
            yield _between(symbols, axis, finest, width)


def _scaled(
    symbols: np.ndarray, finest: Alphabet, width: int
) -> Iterator[_Candidate]:
    """Classes by the scales of rows, columns and so on."""
    means = _scales(symbols, finest)
    seen = 1
    for step in _OCTAVES:
        offsets = {}
        for axis, scales in means.items():
            numbers = np.rint((scales - scales.min()) / step).astype(np.uint8)
            if numbers.any():
                offsets[axis] = numbers
        count = 1 + sum(int(numbers.max()) for numbers in offsets.values())
        if count <= seen or count > _most_classes(symbols, width):
            continue
        seen = count
        model = ClassModel(offsets)
        classes = model.scale_classes(symbols.shape)
        table = _histogram(symbols, classes, count, width)
        side = sum(_entropy(np.bincount(n)) + 40 for n in offsets.values())
        yield _Candidate(model, table, side)


def _most_classes(symbols: np.ndarray, width: int) -> int:
    """How many classes there may be, lest histograms outgrow the array."""
    return min(MAX_CLASSES, (symbols.size + _FREE_COUNTS) // width)


def _scales(symbols: np.ndarray, finest: Alphabet) -> dict[int, np.ndarray]:
    """For each axis the mean exponents of its slices, about their median."""
    numbers = np.arange(int(symbols.max()) + 1)
    octaves = finest.heads_of(numbers).astype(np.float32) / (1 << finest.kept)
    counts = count_values(symbols.reshape(-1))
    counts[finest.is_zero(numbers)] = 0
    # As exact as the others: sums of sixteenths leave nothing to round.
    least = round(16 * _low_octave(octaves, counts)) / 16
    np.maximum(octaves, least, out=octaves)
    sums = [np.zeros(length) for length in symbols.shape]
    axes = range(symbols.ndim)
    for tile in tiles(symbols.shape):
        part = octaves[symbols[tile]]
        for axis in axes:
            others = tuple(a for a in axes if a != axis)
            sums[axis][tile[axis]] += part.sum(axis=others, dtype=np.float64)
    out = {}
    for axis, length in enumerate(symbols.shape):
        if length > 1 and symbols.ndim > 1:
            mean = sums[axis] / (symbols.size // length)
            middle = float(np.median(mean))
            reach = _MOST_OCTAVES / 2
            out[axis] = np.clip(mean, middle - reach, middle + reach)
    return out


def _low_octave(octaves: np.ndarray, counts: np.ndarray) -> float:
    """The first percentile, between two values linearly interpolated.

    Args:
        octaves: float32 array, what each symbol is worth.
        counts: int64 array, how often it occurs.

    Returns:
        Float, 0 where nothing is counted.
    """
    order = np.argsort(octaves, kind="stable")
    ends = np.cumsum(counts[order])
    if not ends[-1]:
        return 0.0
    place = float(ends[-1] - 1) * _LOW
    first = min(int(place), int(ends[-1]) - 1)
    second = min(first + 1, int(ends[-1]) - 1)
    found = order[np.searchsorted(ends, [first, second], side="right")]
    low, high = octaves[found]
    share = np.float32(place - first)
    return float(low + (high - low) * share)


def _between(
    symbols: np.ndarray, axis: int, finest: Alphabet, width: int
) -> _Candidate:
    """Classes by neighbours along an axis."""
    even, odd = halves(symbols, axis)
    model = _neighbours(even, odd.shape[axis], axis, finest)
    classes = model.classes(even, odd.shape[axis], finest)
    first = _histogram(even, np.zeros(even.shape, np.uint8), 1, width)
    count = model.edges.size + 1
    second = _histogram(odd, classes, count, width)
    table = np.concatenate([first, second])
    return _Candidate(ClassModel({}, model), table, 16.0 * count)


def _neighbours(
    even: np.ndarray, odd: int, axis: int, split: Alphabet
) -> Neighbours:
    counts = count_values(even.reshape(-1))
    numbers = split.exponents_of(np.arange(counts.size))
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(counts[order])
    place = math.ceil(float(ends[-1] - 1) * _USUAL)
    top = int(numbers[order[np.searchsorted(ends, place, side="right")]])
    shape = list(even.shape)
    shape[axis] = odd
    sums = np.empty(shape, np.int32)
    for part, total in pair_sums(even, odd, axis, top, split):
        part_of(sums, axis, part)[...] = total
    shares = np.linspace(0, 1, _NEIGHBOUR_CLASSES + 1)[1:-1]
    edges = np.unique(
        np.quantile(
            sums.reshape(-1), shares, method="higher", overwrite_input=True
        )
    )
    return Neighbours(axis, top, edges)


def _finish(
    patterns: np.ndarray, split: Alphabet, model: ClassModel
) -> tuple[Alphabet, ClassModel]:
    """The least head as it is, the neighbours' classes for this split."""
    if isinstance(split, Split):
        low = _least_head(patterns, split.rest, but_zeros=True)
        split = replace(split, low=low)
    if model.neighbours is not None:
        axis = model.neighbours.axis
        even, odd = halves(split.symbols(patterns), axis)
        found = _neighbours(even, odd.shape[axis], axis, split)
        model = ClassModel(model.offsets, found)
    return split, model


def _histogram(
    symbols: np.ndarray, classes: np.ndarray, count: int, width: int
) -> np.ndarray:
    counts = np.zeros(count * width, np.int64)
    flat, of = symbols.reshape(-1), classes.reshape(-1)
    for block in blocks(flat.size):
        index = of[block].astype(np.int32) * np.int32(width) + flat[block]
        counts += np.bincount(index, minlength=counts.size)
    return counts.reshape(count, width)


def _merge(table: np.ndarray, finest: Split, split: Split) -> np.ndarray:
    """A histogram of the finest symbols as one of coarser symbols."""
    run = 1 << finest.kept - split.kept
    merged = table[:, 2:].reshape(len(table), -1, run, 2).sum(axis=2)
    zeros = table[:, None, :2]
    both = np.concatenate([zeros, merged], axis=1)
    if not split.signed:
        both = both.sum(axis=2)
    return both.reshape(len(table), -1)


def _cost(table: np.ndarray) -> float:
    """Bits of the symbols and of the tables they need."""
    counts = table.sum(axis=1)
    present = np.count_nonzero(table, axis=1)
    tables = _SYMBOL_BITS * present + 0.5 * log2_of(table + 1).sum(axis=1)
    lanes = _LANE_BITS * np.ceil(counts / _LANE_SYMBOLS)
    fixed = (lanes + tables)[present > 1].sum()
    classes = _CLASS_BITS * np.count_nonzero(counts)
    return float(_entropy(table) + fixed + classes)


def _tails(table: np.ndarray, split: Split) -> float:
    """Bits of the tails."""
    count = int(table.sum())
    zeros = int(table[:, : 1 << split.signed].sum())
    width = split.rest - min(split.trim, split.rest)
    return float(width * (count - zeros) + (not split.signed) * count)


def _entropy(table: np.ndarray) -> float:
    counts = np.atleast_2d(table)
    totals = counts.sum(axis=1)
    return float(n_log_n(totals).sum() - n_log_n(counts[counts > 0]).sum())
