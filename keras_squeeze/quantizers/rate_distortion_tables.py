"""What a level will cost: estimates of the coder's rates.

A coder that knows the mean magnitude of every output channel and of every
input expects a weight of the size of their product. Weights are therefore
sorted into classes of expected magnitude, a quarter of an octave wide, and
each class has a table: the bits of each level, from a histogram of the levels
chosen before, smoothed by the distribution such weights usually have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.blocks import blocks, tiles

#: Number of classes. The last one is free of charge: it is for padding.
CLASSES = 65
PADDING_CLASS = CLASSES - 1

#: How levels stand for codes: themselves, or the machine's two grids.
SCALAR, EVEN, ODD = range(3)

# Tables hold no more levels; larger ones cost what the last one does.
_LARGEST_TABLE = 1024

# The fraction of a step that is dropped before any rate is known.
_DROPPED = 0.8

_CLASSES_PER_OCTAVE = 4
_CLASS_OF_ONE = 28
# Weights are neither Gaussian nor Laplacian: this mixture fits trained ones.
_LAPLACE_SHARE = 0.35
# The prior weighs as much as so many observed levels.
_PRIOR_COUNT = 24.0
# Observations of mean magnitude an average channel or input is worth.
_CHANNEL_COUNT = 3.0
_INPUT_COUNT = 2.0
_POSITION_COUNT = 4.0
_SMALLEST_PROBABILITY = 1e-9


def expected_magnitude_classes(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """Sorts weights by the magnitude their channel and input let expect.

    Args:
        codes: Array of shape `(channels, taps, inputs)`, codes or their
            magnitudes.

    Returns:
        uint8 array of the same shape.

    Example:
    >>> classes = expected_magnitude_classes(np.ones((2, 1, 3), np.float32))
    >>> np.unique(classes).tolist()
    [28]
    """
    channels, taps, inputs = codes.shape
    rows, places = _summed_magnitudes(codes)
    mean = max(float(rows.sum() / max(1, codes.size)), 2.0**-10)
    rows = (rows + _CHANNEL_COUNT * mean) / (taps * inputs + _CHANNEL_COUNT)
    by_input = places.sum(axis=0) + _INPUT_COUNT * mean
    by_input /= channels * taps + _INPUT_COUNT
    by_tap = places.sum(axis=1) + _INPUT_COUNT * mean
    by_tap /= channels * inputs + _INPUT_COUNT
    likely = by_tap[:, None] * by_input / mean
    places = places + _POSITION_COUNT * likely
    places /= channels + _POSITION_COUNT
    classes = np.empty(codes.shape, np.uint8)
    channel_octaves, place_octaves = np.log2(rows / mean), np.log2(places)
    for tile in tiles(codes.shape) if codes.size else ():
        octaves = channel_octaves[tile[0], None, None] + place_octaves[tile[1:]]
        octaves = octaves.astype(np.float32)
        octaves *= np.float32(_CLASSES_PER_OCTAVE)
        octaves += np.float32(_CLASS_OF_ONE + 0.5)
        np.clip(octaves, 0, PADDING_CLASS - 1, out=octaves)
        classes[tile] = octaves
    return classes


def _summed_magnitudes(
    codes: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over each channel, and over all channels; of integers exact."""
    rows, places = np.zeros(len(codes)), np.zeros(codes.shape[1:])
    for tile in tiles(codes.shape) if codes.size else ():
        part = np.abs(codes[tile])
        rows[tile[0]] += part.sum(axis=(1, 2), dtype=np.float64)
        places[tile[1:]] += part.sum(axis=0, dtype=np.float64)
    return rows, places


def table_size(in_steps: NDArray[np.float32], factor: float = 1.0) -> int:
    """How many levels the tables of rates need.

    Args:
        in_steps: float32 array, weights in units of a step.
        factor: Float. Levels a step. Defaults to `1.0`.

    Returns:
        Integer, a power of two from 16 to 1024.
    """
    highest = np.max(in_steps, initial=np.float32(0))
    lowest = np.min(in_steps, initial=np.float32(0))
    peak = float(max(highest, -lowest) * np.float32(factor))
    # Rounded up, so that tensors share tables of priors.
    needed = 16
    while needed < peak + 3 and needed < _LARGEST_TABLE:
        needed *= 2
    return needed


def first_codes(in_steps: NDArray[np.float32]) -> NDArray[np.int32]:
    """Codes to begin with: below the nearest ones, as rates will make them.

    Args:
        in_steps: float32 array, weights in units of the step.

    Returns:
        int32 array of the same shape, C-contiguous.
    """
    found = np.empty(in_steps.shape, np.int32)
    for tile in tiles(in_steps.shape) if in_steps.size else ():
        part = in_steps[tile]
        codes = (np.abs(part) + np.float32(1 - _DROPPED)).astype(np.int32)
        found[tile] = np.where(part < 0, -codes, codes)
    return found


def prior_rates(grids: tuple[int, ...], levels: int) -> NDArray[np.float32]:
    """Rates before any level is known.

    Args:
        grids: Tuple of `SCALAR`, `EVEN`, `ODD`.
        levels: Integer. How many levels, zero included.

    Returns:
        float32 array of shape `(CLASSES, len(grids), levels)`.
    """
    probabilities = _prior(grids, levels)
    return _to_bits(probabilities)


def observed_rates(
    levels: NDArray[np.int32],
    grid_of: NDArray[np.uint8] | None,
    classes: NDArray[np.uint8],
    grids: tuple[int, ...],
    count: int,
) -> NDArray[np.float32]:
    """Rates after levels were seen.

    Args:
        levels: int32 array, magnitudes of the levels chosen before.
        grid_of: uint8 array of the same shape, indices into `grids`; `None`
            if there is one grid.
        classes: uint8 array of the same shape.
        grids: Tuple of `SCALAR`, `EVEN`, `ODD`.
        count: Integer. How many levels the tables hold, zero included.

    Returns:
        float32 array of shape `(CLASSES, len(grids), count)`.
    """
    counts = np.zeros((CLASSES, len(grids), count), np.int64)
    count_levels(counts, levels, grid_of, classes)
    return rates_of(counts, grids)


def count_levels(
    counts: NDArray[np.int64],
    levels: NDArray[np.int32],
    grid_of: NDArray[np.uint8] | None,
    classes: NDArray[np.uint8],
) -> None:
    """Adds how often each level was seen, in each class and on each grid.

    Args:
        counts: int64 array of shape `(CLASSES, grids, levels)`; changed.
        levels: int32 array.
        grid_of: uint8 array of the same shape, or `None`.
        classes: uint8 array of the same shape.
    """
    _, tables, count = counts.shape
    histogram = counts.reshape(-1)
    flat_classes, flat_levels = classes.reshape(-1), levels.reshape(-1)
    flat_grids = None if grid_of is None else grid_of.reshape(-1)
    for block in blocks(flat_levels.size):
        cells = flat_classes[block].astype(np.int32) * tables
        if flat_grids is not None:
            cells += flat_grids[block]
        cells *= count
        cells += np.minimum(flat_levels[block], count - 1)
        histogram += np.bincount(cells, minlength=histogram.size)


def rates_of(
    counts: NDArray[np.int64], grids: tuple[int, ...]
) -> NDArray[np.float32]:
    """Rates of levels that were seen so often.

    Args:
        counts: int64 array of shape `(CLASSES, len(grids), levels)`.
        grids: Tuple of `SCALAR`, `EVEN`, `ODD`.

    Returns:
        float32 array of the same shape.
    """
    seen = counts + _PRIOR_COUNT * _prior(grids, counts.shape[2])
    return _to_bits(seen / seen.sum(axis=2, keepdims=True))


def _to_bits(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    bits = -np.log2(np.maximum(probabilities, _SMALLEST_PROBABILITY))
    bits[..., 1:] += 1.0
    bits[PADDING_CLASS] = 0.0
    return bits.astype(np.float32)


@functools.lru_cache(maxsize=8)
def _prior(grids: tuple[int, ...], levels: int) -> NDArray[np.float64]:
    """Probabilities of the levels in each class."""
    table = np.empty((CLASSES, len(grids), levels))
    for number in range(CLASSES):
        octave = (number - _CLASS_OF_ONE) / _CLASSES_PER_OCTAVE
        scale = _scale_of_mean(2.0**octave)
        for place, grid in enumerate(grids):
            beyond = [*_survivals(_edges(grid, levels), scale), 0.0]
            table[number, place] = 0.0
            table[number, place, : len(beyond) - 1] = -np.diff(beyond)
    table /= table.sum(axis=2, keepdims=True)
    table.setflags(write=False)
    return table


def _edges(grid: int, levels: int) -> list[float]:
    """The magnitude from which on each level is the nearest."""
    if grid == SCALAR:
        return [0.0, *(level - 0.5 for level in range(1, levels))]
    if grid == EVEN:
        return [0.0, *(2.0 * level - 1 for level in range(1, levels))]
    return [0.0, 0.5, *(2.0 * level - 2 for level in range(2, levels))][:levels]


def _survivals(edges: list[float], scale: float) -> Iterator[float]:
    for edge in edges:
        survival = _survival(edge, scale)
        yield survival
        if survival < _SMALLEST_PROBABILITY:
            return


def _survival(magnitude: float, scale: float) -> float:
    if magnitude <= 0:
        return 1.0
    # Both parts have the mean magnitude `scale`.
    gauss = math.erfc(magnitude / (scale * math.sqrt(math.pi)))
    laplace = math.exp(-magnitude / scale)
    return _LAPLACE_SHARE * laplace + (1 - _LAPLACE_SHARE) * gauss


@functools.cache
def _scale_of_mean(mean: float) -> float:
    """The scale whose rounded magnitudes have this mean."""
    if mean > 4:
        return mean
    low, high = 0.05, 8.0
    for _ in range(24):
        middle = math.sqrt(low * high)
        tail = (_survival(level - 0.5, middle) for level in range(1, 64))
        low, high = (low, middle) if sum(tail) > mean else (middle, high)
    return high
