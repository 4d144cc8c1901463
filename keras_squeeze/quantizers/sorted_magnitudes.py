"""The squared error of many scales at once, from sorted magnitudes.

Where a level starts and ends among the sorted values is found by bisection,
and the sums in between by two cumulative sums: a scale costs a few operations
a level and none a value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Rows lie one after the other in one sorted array: row `i` in `[2i, 2i + 1]`.
_SPACING = 2.0
_BEYOND = 1.5


class SortedMagnitudes:
    """Blocks of values, prepared for the search of their scales.

    Args:
        blocks: float32 array of shape `(blocks, size)`.

    Example:
    >>> magnitudes = SortedMagnitudes(np.array([[0.0, -1.0, 2.0]], "float32"))
    >>> magnitudes.best_scale(np.array([0.5, 1.0]), np.array([1.0, 0.5]))
    array([2.])
    """

    def __init__(self, blocks: NDArray[np.float32]) -> None:
        magnitudes = np.abs(blocks).astype(np.float64)
        self._peak = magnitudes.max(axis=1, initial=0.0)
        magnitudes /= np.where(self._peak > 0, self._peak, 1.0)[:, None]
        magnitudes.sort(axis=1)
        self._offsets = _SPACING * np.arange(len(blocks))
        total = np.cumsum(magnitudes.reshape(-1))
        self._total = np.concatenate([[0.0], total])
        self._sorted = (magnitudes + self._offsets[:, None]).reshape(-1)
        self._ends = magnitudes.shape[1] * np.arange(1, len(blocks) + 1)

    def best_scale(
        self,
        levels: NDArray[np.float64],
        factors: NDArray[np.float64],
        improvements: int = 0,
    ) -> NDArray[np.float64]:
        """The scale at which levels approximate the magnitudes best.

        Args:
            levels: float64 array of ascending, positive levels; zero is one
                too.
            factors: float64 array of candidates, as parts of a block's
                largest magnitude.
            improvements: Integer. How often the best candidate is moved to
                where its codes have their least error. Defaults to `0`.

        Returns:
            float64 array of shape `(blocks,)`, 0 for a block of zeros.
        """
        candidates = np.tile(factors, (len(self._peak), 1))
        product, square = self._sums(candidates, levels)
        gain = candidates * (2 * product - candidates * square)
        best = gain.argmax(axis=1)[:, None]
        scale = np.take_along_axis(candidates, best, axis=1)
        for _ in range(improvements):
            product, square = self._sums(scale, levels)
            # Where all values became zero there is nothing to improve.
            scale = np.where(
                square > 0, product / np.where(square > 0, square, 1), scale
            )
        result: NDArray[np.float64] = scale[:, 0] * self._peak
        return result

    def _sums(
        self, scales: NDArray[np.float64], levels: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`sum(level * value)` and `sum(level**2)` of each scale's codes."""
        middle = (levels + np.concatenate([[0.0], levels[:-1]])) / 2
        product = np.zeros(scales.shape)
        square = np.zeros(scales.shape)
        end = np.broadcast_to(self._ends[:, None], scales.shape)
        for level, threshold in zip(levels[::-1], middle[::-1], strict=True):
            edges = np.minimum(scales * threshold, _BEYOND)
            edges = edges + self._offsets[:, None]
            start = np.searchsorted(self._sorted, edges)
            product += level * (self._total[end] - self._total[start])
            square += level * level * (end - start)
            end = start
        return product, square
