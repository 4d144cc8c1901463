"""The optimal hard threshold for singular values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.low_rank.marchenko_pastur import (
    count_above,
    median_eigenvalue,
)
from keras_squeeze.low_rank.rank_rules import RankRule


class GavishDonoho(RankRule):
    """Keeps the singular values above the optimal hard threshold.

    Of all hard thresholds this one has the least mean squared error for a
    low-rank matrix in noise of unknown level, for large matrices. It is the
    median singular value times a factor that depends on the shape alone,
    2.858 for a square matrix, and presumes that the signal holds less than
    half of the values.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 80))
    >>> matrix = signal + 0.1 * rng.normal(size=(60, 80))
    >>> values = np.linalg.svd(matrix, compute_uv=False)
    >>> GavishDonoho().rank(values, 60, 80)
    4

    References:
        [Gavish & Donoho, 2014](https://arxiv.org/abs/1305.5870)
    """

    def keep(self, values: NDArray[np.float64], rows: int, columns: int) -> int:
        """How many values lie above the threshold."""
        few, many = min(rows, columns), max(rows, columns)
        threshold = threshold_factor(few / many) * float(np.median(values))
        return count_above(values, threshold, many)


def threshold_factor(ratio: float) -> float:
    """The optimal threshold in units of the median singular value.

    Args:
        ratio: Float in `(0, 1]`. The smaller dimension over the larger.

    Returns:
        Float.

    Example:
    >>> round(threshold_factor(1.0), 3)
    2.858
    """
    root = math.sqrt(ratio**2 + 14 * ratio + 1)
    known_noise = math.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + root))
    return known_noise / math.sqrt(median_eigenvalue(ratio))
