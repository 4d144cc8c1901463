"""Any weight may go: the lowest scores of the whole kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Unstructured:
    """Prunes exactly `round(sparsity * size)` weights, wherever they are.

    Ties are broken by position, so that equal scores give equal masks on
    every machine. At least one weight stays.

    Example:
    >>> Unstructured().mask(np.array([[4.0, 1.0], [2.0, 3.0]]), 0.5)
    array([[ True, False],
           [False,  True]])
    """

    def mask(self, scores: NDArray[Any], sparsity: float) -> NDArray[np.bool_]:
        """Marks the weights that stay.

        Args:
            scores: Array of scores, the higher, the more a weight matters.
                NaN counts as the highest.
            sparsity: Float in `[0, 1)`. The share of weights that go.

        Returns:
            Boolean array of the scores' shape, true where a weight stays.
        """
        flat = np.asarray(scores).ravel()
        count = min(round(sparsity * flat.size), flat.size - 1)
        if count <= 0:
            return np.ones(np.shape(scores), dtype=bool)
        if np.isnan(flat).any():
            flat = np.nan_to_num(flat, nan=np.inf)
        threshold = _smallest(flat, count)
        keep: NDArray[np.bool_] = flat > threshold
        excess = flat.size - np.count_nonzero(keep) - count
        if excess:
            ties = np.flatnonzero(flat == threshold)
            keep[ties[ties.size - excess :]] = True
        return keep.reshape(np.shape(scores))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal pattern: none."""
        return {}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _smallest(flat: NDArray[Any], count: int) -> Any:
    """The `count`-th smallest of the scores, counted from 1.

    A partial sort is linear where a full one costs tens of times as much; but
    not among many equal values, which the weights pruned before are. So these
    are counted, and only the rest is sorted.
    """
    lowest = flat.min()
    others = flat[flat > lowest]
    rank = count - (flat.size - others.size)
    if rank <= 0:
        return lowest
    return np.partition(others, rank - 1)[rank - 1]
