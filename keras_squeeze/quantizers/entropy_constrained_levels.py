"""Levels of least error and rate together, for values on a line.

A value goes to the level with the least `weight * error**2 + price * bits`.
For values of one weight these are intervals, whose bounds are the slopes of
the lower convex hull of the points `(level, level**2 + price * bits /
weight)`; values are therefore gathered in classes of about equal weight.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.kmeans_levels import SortedValues

_CLASSES_AN_OCTAVE = 1
_MOST_OCTAVES = 8
_MOST_PASSES = 200
_LEAST_PROGRESS = 1e-6


@dataclasses.dataclass(frozen=True)
class WeightClasses:
    """Values sorted within classes of about equal weight.

    Args:
        rows: List of `SortedValues`, one a class.
        weights: float64 array: what the squared errors of a class weigh
            where a level is chosen.
        squares: Float, the sum of weight times squared value.
        zeros: Integer, how many further values are zero and stay so.
    """

    rows: list[SortedValues]
    weights: NDArray[np.float64]
    squares: float
    zeros: int

    @classmethod
    def of(
        cls,
        values: NDArray[Any],
        weights: NDArray[np.float64] | None,
        keep_zeros: bool,
    ) -> WeightClasses:
        """Sorts values into classes.

        Args:
            values: Array of shape `(n,)`.
            weights: Optional float64 array of that shape, above 0, of mean 1.
            keep_zeros: Boolean. Whether zeros are set apart.

        Returns:
            `WeightClasses`.
        """
        zeros = 0
        if keep_zeros:
            kept = values != 0
            zeros = int(values.size - np.count_nonzero(kept))
            values = values[kept]
            weights = None if weights is None else weights[kept]
        exact = values.astype(np.float64)
        if weights is None:
            squares = float(exact @ exact)
            return cls([SortedValues.of(exact)], np.ones(1), squares, zeros)
        squares = float((exact * weights) @ exact)
        numbers = class_numbers(weights)
        found = np.unique(numbers)
        rows = [
            SortedValues.of(exact[numbers == i], weights[numbers == i])
            for i in found
        ]
        return cls(rows, class_weights(found), squares, zeros)

    @property
    def count(self) -> int:
        """Number of values, zeros included."""
        return sum(len(row.values) for row in self.rows) + self.zeros


def class_numbers(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """The class of each weight.

    Args:
        weights: float64 array, above 0.

    Returns:
        int64 array of the same shape, 0 for the least weights.
    """
    octaves = np.clip(np.log2(weights), -_MOST_OCTAVES, _MOST_OCTAVES)
    numbers = np.rint(_CLASSES_AN_OCTAVE * (octaves + _MOST_OCTAVES))
    found: NDArray[np.int64] = numbers.astype(np.int64)
    return found


def class_weights(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """The weight that stands for a class."""
    octaves = numbers / _CLASSES_AN_OCTAVE - _MOST_OCTAVES
    return np.exp2(octaves.astype(np.float64))


@dataclasses.dataclass(frozen=True)
class PricedLevels:
    """Levels, what their codes cost, and what they achieve.

    Args:
        levels: float64 array, ascending.
        bits: float64 array of the same shape, what a code of each costs.
        error: Float. Weighted mean squared error.
        entropy: Float. Bits a value.
    """

    levels: NDArray[np.float64]
    bits: NDArray[np.float64]
    error: float
    entropy: float


def priced_intervals(
    levels: NDArray[np.float64], penalties: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which levels are ever chosen, and where one follows the other.

    Args:
        levels: float64 array, ascending and distinct.
        penalties: float64 array of the same shape: what is added to the
            squared error of a level.

    Returns:
        Pair of an integer array of the chosen levels, ascending, and a
        float64 array of the bounds between them.

    Example:
    >>> levels = np.array([-1.0, 0.0, 1.0])
    >>> priced_intervals(levels, np.array([0.5, 0.0, 0.5]))[1]
    array([-0.75,  0.75])
    """
    heights = levels * levels + penalties
    hull = [0]
    bounds: list[float] = []
    for place in range(1, len(levels)):
        while True:
            last = hull[-1]
            rise = heights[place] - heights[last]
            bound = rise / (levels[place] - levels[last]) / 2
            if not bounds or bound > bounds[-1]:
                break
            bounds.pop()
            hull.pop()
        hull.append(place)
        bounds.append(bound)
    return np.array(hull, np.intp), np.array(bounds, np.float64)


def iterate(
    classes: WeightClasses,
    levels: NDArray[np.float64],
    price: float,
    pinned: bool,
) -> PricedLevels:
    """Assigns values, moves levels and counts bits by turns.

    Args:
        classes: `WeightClasses`.
        levels: float64 array to begin with, ascending and distinct; 0 is
            among them if `pinned`.
        price: Float. What a bit costs in squared error.
        pinned: Boolean. Whether the level at zero stays there.

    Returns:
        `PricedLevels`; those that no value takes are gone.
    """
    bits = np.zeros(len(levels))
    cost = math.inf
    for _ in range(_MOST_PASSES):
        priced = _pass(classes, levels, bits, price, pinned)
        reached = priced.error + price * priced.entropy
        levels, bits = priced.levels, priced.bits
        if not reached < cost * (1 - _LEAST_PROGRESS):
            break
        cost = reached
    return priced


def _pass(
    classes: WeightClasses,
    levels: NDArray[np.float64],
    bits: NDArray[np.float64],
    price: float,
    pinned: bool,
) -> PricedLevels:
    sums = np.zeros((3, len(levels)))
    for row, weight in zip(classes.rows, classes.weights, strict=True):
        chosen, bounds = priced_intervals(levels, bits * (price / weight))
        cuts = np.searchsorted(row.values, bounds)
        cuts = np.concatenate([[0], cuts, [len(row.values)]])
        sums[0, chosen] += np.diff(cuts)
        sums[1, chosen] += np.diff(row.mass[cuts])
        sums[2, chosen] += np.diff(row.first[cuts])
    at_zero = levels == 0.0 if pinned else np.zeros(len(levels), bool)
    sums[0, at_zero] += classes.zeros
    return _measured(classes, levels, sums, at_zero)


def _measured(
    classes: WeightClasses,
    levels: NDArray[np.float64],
    sums: NDArray[np.float64],
    at_zero: NDArray[np.bool_],
) -> PricedLevels:
    kept = (sums[0] > 0) | at_zero
    (counts, mass, first), at_zero = sums[:, kept], at_zero[kept]
    means = np.divide(first, mass, out=levels[kept].copy(), where=mass > 0)
    means[at_zero] = 0.0
    # The squared error of values around their means, the zero's being 0.
    explained = float(np.sum(np.where(at_zero, 0.0, first * means)))
    # Levels of classes of several weights may meet or pass each other.
    means, merged = np.unique(means, return_inverse=True)
    counts = np.bincount(merged, counts, len(means))
    total = max(1, classes.count)
    # A level at zero that nothing takes costs as if one value did.
    bits = -np.log2(np.maximum(counts, 1) / total)
    return PricedLevels(
        levels=means,
        bits=bits,
        error=max(classes.squares - explained, 0.0) / total,
        entropy=float(counts @ bits) / total,
    )
