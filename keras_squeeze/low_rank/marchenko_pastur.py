"""The largest singular value that noise alone would have."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.low_rank.rank_rules import RankRule

_ANGLES = 8192


class MarchenkoPastur(RankRule):
    """Keeps the singular values above the edge of a noise spectrum.

    The singular values of a `rows x columns` matrix of independent noise
    follow the law of Marchenko and Pastur, whose upper edge is
    `sigma * (sqrt(rows) + sqrt(columns))`. The standard deviation `sigma`
    comes from the median of the values: right as long as the signal holds
    less than half of them. The lowest threshold of the rules for noise: a
    value just above the edge counts as signal.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 80))
    >>> matrix = signal + 0.1 * rng.normal(size=(60, 80))
    >>> values = np.linalg.svd(matrix, compute_uv=False)
    >>> MarchenkoPastur().rank(values, 60, 80)
    4

    References:
        [Marchenko & Pastur, 1967](https://doi.org/10.1070/SM1967v001n04ABEH001994)
    """

    def keep(self, values: NDArray[np.float64], rows: int, columns: int) -> int:
        """How many values lie above the edge."""
        few, many = min(rows, columns), max(rows, columns)
        typical = math.sqrt(many * median_eigenvalue(few / many))
        sigma = float(np.median(values)) / typical
        edge = sigma * (math.sqrt(rows) + math.sqrt(columns))
        return count_above(values, edge, many)


def count_above(
    values: NDArray[np.float64], threshold: float, dimension: int
) -> int:
    """How many values exceed a threshold and the rounding of float32.

    Args:
        values: Array of singular values, descending, the first at most one.
        threshold: Float.
        dimension: Integer. The larger dimension of the matrix.

    Returns:
        Integer.

    Example:
    >>> count_above(np.array([1.0, 0.5, 1e-9]), 0.0, 3)
    2
    """
    # A low-rank kernel in float32 has a tail of rounding errors about so big.
    rounding = math.sqrt(dimension) * 2.0**-24
    return int((values > max(threshold, rounding)).sum())


@functools.lru_cache(maxsize=1024)
def median_eigenvalue(ratio: float) -> float:
    """The median of the law of Marchenko and Pastur, for unit variance.

    Args:
        ratio: Float in `(0, 1]`. The smaller dimension over the larger.

    Returns:
        Float, in units of the variance times the larger dimension for
        squared singular values.

    Example:
    >>> round(median_eigenvalue(1.0), 4)
    0.6528
    """
    # With the eigenvalue 1 + ratio + 2 sqrt(ratio) cos(t) the density in t is
    # bounded, also where the one in the eigenvalue is not.
    angles = (np.arange(_ANGLES) + 0.5) * (math.pi / _ANGLES)
    spread = 2 * math.sqrt(ratio)
    # From the smallest eigenvalue up.
    eigenvalues = (1 + ratio + spread * np.cos(angles))[::-1]
    weights = np.sin(angles) ** 2 / eigenvalues
    ends = np.cumsum(weights)
    middles = (ends - weights / 2) / ends[-1]
    return float(np.interp(0.5, middles, eigenvalues))
