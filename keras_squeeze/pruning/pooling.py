"""From the scores of weights to the scores of groups of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning.ranking import without_nan

POOLINGS = ("mean", "max", "l2")

#: Applies a ufunc over each group: `reduce(np.add, array)`.
Reduce = Callable[[np.ufunc, NDArray[Any]], NDArray[Any]]


def check_pooling(value: Any, poolings: tuple[str, ...] = POOLINGS) -> str:
    """Returns the name of a pooling, or raises `SqueezeError`."""
    if value not in poolings:
        raise SqueezeError(
            f"Expected `pooling` to be one of {poolings}. Received: {value!r}"
        )
    return str(value)


def pooled(
    scores: NDArray[Any], pooling: str, reduce: Reduce, counts: Any
) -> NDArray[np.floating[Any]]:
    """Pools scores over groups.

    A score of minus infinity, which weights pruned before have, counts as the
    lowest finite score of the kernel, as one such weight should not condemn
    its group; a group of nothing else stays at minus infinity.

    Args:
        scores: Array of scores.
        pooling: String. `"mean"`, `"max"` or `"l2"`, the root mean square.
        reduce: Callable that applies a ufunc over each group.
        counts: Array or integer. The weights of each group.

    Returns:
        Array of one dimension, a score a group, without NaN.
    """
    scores = without_nan(scores)
    emptied = None
    if scores.size and scores.min() == -np.inf:
        emptied = reduce(np.maximum, scores) == -np.inf
        finite = scores > -np.inf
        lowest = np.min(scores, where=finite, initial=np.inf)
        scores = np.where(finite, scores, np.minimum(lowest, 0))
    groups = _reduced(scores, pooling, reduce, counts)
    if emptied is not None:
        groups = np.where(emptied, -np.inf, groups).astype(groups.dtype)
    return groups.ravel()


def _reduced(
    scores: NDArray[Any], pooling: str, reduce: Reduce, counts: Any
) -> NDArray[Any]:
    if pooling == "max":
        return reduce(np.maximum, scores)
    total = reduce(np.add, scores if pooling == "mean" else np.square(scores))
    mean: NDArray[Any] = np.asarray(total / counts, dtype=scores.dtype)
    return mean if pooling == "mean" else np.sqrt(mean)
