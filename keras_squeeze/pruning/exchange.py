"""Which of the kept weights make room for others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.ranking import keep_highest, without_nan


def lowest_kept(
    keep: NDArray[np.bool_], scores: NDArray[Any], count: int
) -> NDArray[np.intp]:
    """The places of the kept weights with the lowest scores.

    Args:
        keep: Boolean array, true where a weight stays.
        scores: Array of its shape.
        count: Integer. How many to find, at most as many as are kept.

    Returns:
        Ascending array of places in the flattened kernel; of equal scores
        the earlier.
    """
    kept = np.flatnonzero(keep)
    high = keep_highest(without_nan(np.ravel(scores)[kept]), count)
    return kept[~high]
