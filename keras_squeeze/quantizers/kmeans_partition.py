"""Optimal partitions of sorted points, by dynamic programming.

The best `k` clusters of points on a line are runs of neighbours, and the best
place to split off the last run moves to the right as points are added. So the
splits of the middle prefix bound those of all prefixes on either side, and a
table row of `n` prefixes costs `n log n` comparisons instead of `n**2`. All
prefixes of one distance from their neighbours, of all rows, are one NumPy
call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# An empty run has neither weight nor error.
_NO_WEIGHT = 1e-300


class Partitions:
    """The cheapest partitions into `1 .. clusters` runs, of every prefix.

    Args:
        points: float64 array of shape `(rows, count)`, ascending or
            descending in each row.
        weights: float64 array of the same shape, not negative. Points of
            weight 0 may fill up short rows.
        clusters: Integer, the most runs.

    Example:
    >>> points = np.array([[0.0, 1.0, 10.0, 12.0]])
    >>> partitions = Partitions(points, np.ones((1, 4)), clusters=2)
    >>> partitions.costs[2, :, -1], partitions.boundaries([2]).tolist()
    (array([2.5]), [[0, 2, 4]])

    References:
        - Wang and Song, 2011, Ckmeans.1d.dp: Optimal k-means clustering in
          one dimension by dynamic programming.
        - Wu, 1991, Optimal quantization by matrix searching (the monotone
          splits).
    """

    def __init__(
        self,
        points: NDArray[np.float64],
        weights: NDArray[np.float64],
        clusters: int,
    ) -> None:
        self.rows, self.count = points.shape
        self.clusters = clusters
        self.mass = _prefix_sums(weights)
        self.first = _prefix_sums(weights * points)
        self.second = _prefix_sums(weights * points * points)
        width = self.count + 1
        #: Costs of `k` runs of the first `i` points: `[k, row, i]`.
        self.costs = np.zeros((clusters + 1, self.rows, width))
        self._splits = np.zeros((clusters + 1, self.rows * width), np.int32)
        self._fill()

    def _fill(self) -> None:
        alone = self.second - self.first**2 / np.maximum(self.mass, _NO_WEIGHT)
        self.costs[1] = np.maximum(alone, 0.0)
        self._splits[1] = np.repeat(self._starts(), self.count + 1)
        for k in range(2, self.clusters + 1):
            self._fill_row(k)

    def _starts(self) -> NDArray[Any]:
        """Where each row of the flattened tables begins."""
        starts: NDArray[Any] = np.arange(self.rows) * (self.count + 1)
        return starts

    def _fill_row(self, k: int) -> None:
        offsets = (self.costs[k - 1] - self.second).ravel()
        costs, splits = self.costs[k].reshape(-1), self._splits[k]
        splits[self._starts()] = self._starts()
        stride = 1 << self.count.bit_length()
        while stride > 1:
            half = stride // 2
            columns = np.arange(half, self.count + 1, stride)
            if columns.size:
                places = (self._starts()[:, None] + columns).ravel()
                low = splits[places - half]
                high = self._upper_bounds(columns, half, splits, places)
                best, chosen = self._search(offsets, places, low, high)
                costs[places] = np.maximum(best, 0.0)
                splits[places] = chosen
            stride = half

    def _upper_bounds(
        self,
        columns: NDArray[Any],
        half: int,
        splits: NDArray[np.int32],
        places: NDArray[Any],
    ) -> NDArray[Any]:
        inside = np.tile(columns + half <= self.count, self.rows)
        after = np.where(inside, places + half, places)
        return np.where(inside, np.minimum(splits[after], places), places)

    def _search(
        self,
        offsets: NDArray[np.float64],
        places: NDArray[Any],
        low: NDArray[Any],
        high: NDArray[Any],
    ) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """The best last split of every prefix, each within its bounds."""
        lengths = np.maximum(high - low, 0) + 1
        ends = np.cumsum(lengths)
        begins = ends - lengths
        trial = np.arange(ends[-1]) + np.repeat(low - begins, lengths)
        mass, first = self.mass.ravel(), self.first.ravel()
        width = np.repeat(mass[places], lengths)
        width -= mass[trial]
        total = np.repeat(first[places], lengths)
        total -= first[trial]
        # The error of points around their mean: their squares less this.
        total *= total
        total /= np.maximum(width, _NO_WEIGHT, out=width)
        value = offsets[trial]
        value -= total
        least = np.minimum.reduceat(value, begins)
        hits = np.flatnonzero(value == np.repeat(least, lengths))
        chosen = trial[hits[np.searchsorted(hits, begins)]]
        return least + self.second.ravel()[places], chosen

    def boundaries(
        self, clusters: NDArray[Any] | list[int], stops: Any = None
    ) -> NDArray[np.int64]:
        """Where the runs of the cheapest partitions begin and end.

        Args:
            clusters: Array of integers of shape `(rows,)`: how many runs.
            stops: Optional array of integers of that shape: how many points
                of each row are divided. Defaults to all.

        Returns:
            int64 array of shape `(rows, most + 1)`, where `most` is the
            largest of `clusters`: run `k` of a row holds the points from
            `[k]` to before `[k + 1]`; the runs that a row has not are empty,
            at its end.
        """
        wanted = np.asarray(clusters)
        most = int(wanted.max(initial=0))
        end = np.full(self.rows, self.count) if stops is None else stops
        found = np.repeat(np.asarray(end)[:, None], most + 1, axis=1)
        starts = self._starts()
        for k in range(most, 0, -1):
            # Rows of fewer runs stay at their end until their turn.
            has = wanted >= k
            split = self._splits[k][starts + found[:, k]] - starts
            found[:, k - 1] = np.where(has, split, found[:, k])
        return found.astype(np.int64)


def _prefix_sums(array: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.zeros((array.shape[0], array.shape[1] + 1))
    np.cumsum(array, axis=1, out=sums[:, 1:])
    return sums
