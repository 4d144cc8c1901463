"""The range of an affine grid that loses the least energy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.affine_grid import AffineGrid

_COARSE = 16
_FINE = 64


def least_squares_range(
    blocks: NDArray[np.float32], bits: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Searches the lower and the upper end of the range of each block.

    Both ends shrink together in sixteenths, then each alone in sixteenths and
    sixty-fourths around the best.

    Args:
        blocks: float32 array of shape `(blocks, size)`.
        bits: Integer from 2.

    Returns:
        Pair of float64 arrays of shape `(blocks,)`: ends at or below zero,
        and at or above zero.
    """
    low = blocks.min(axis=1, initial=0.0).astype(np.float64)
    high = blocks.max(axis=1, initial=0.0).astype(np.float64)
    # Relative to a power of two, squares can neither overflow nor vanish, and
    # scales are rounded as those of the range itself.
    exponent = np.frexp(np.maximum(high, -low))[1]
    relative = np.ldexp(blocks, -exponent[:, None])
    search = _RangeSearch(
        relative, np.ldexp(low, -exponent), np.ldexp(high, -exponent), bits
    )
    for step in np.arange(_COARSE, 0, -1) / _COARSE:
        search.try_factors(np.full((2, len(blocks)), step))
    for unit in (_COARSE, _FINE):
        for side in (0, 1):
            centre = search.factors.copy()
            for offset in (-3, -2, -1, 1, 2, 3):
                factors = centre.copy()
                factors[side] += offset / unit
                search.try_factors(np.clip(factors, 1 / _FINE, 1.0))
    lower, upper = search.factors
    return low * lower, high * upper


class _RangeSearch:
    """The best pair of factors for both ends so far, in each block."""

    def __init__(
        self,
        relative: NDArray[np.float32],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        bits: int,
    ) -> None:
        self._relative = relative
        self._low, self._high = low, high
        self._bits = bits
        self._error = np.full(len(relative), np.inf)
        self.factors = np.ones((2, len(relative)))

    def try_factors(self, factors: NDArray[np.float64]) -> None:
        lower, upper = factors
        grid = AffineGrid.over(
            self._low * lower, self._high * upper, self._bits
        )
        difference = grid.levels(self._relative)
        difference *= grid.scale[:, None]
        difference -= self._relative
        error = np.einsum("ij,ij->i", difference, difference)
        better = error < self._error
        self._error = np.where(better, error, self._error)
        self.factors = np.where(better, factors, self.factors)
