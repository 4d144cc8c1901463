"""Removing the lowest of many scores, without sorting where it can be had."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def without_nan(scores: NDArray[Any]) -> NDArray[Any]:
    """The scores with infinity for NaN: what is not known is kept."""
    # One pass: a sum is NaN if a summand is, or if infinities cancel.
    with np.errstate(all="ignore"):
        suspect = bool(np.isnan(np.sum(scores)))
    if suspect and np.isnan(scores).any():
        return np.where(np.isnan(scores), np.inf, scores)
    return scores


def keep_highest(flat: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Marks all but the `count` lowest scores; of equal ones the earlier go.

    Args:
        flat: Array of one dimension, without NaN.
        count: Integer. How many go.

    Returns:
        Boolean array, false in exactly `count` places.
    """
    if count <= 0:
        return np.ones(flat.shape, dtype=bool)
    threshold = smallest(flat, count)
    keep: NDArray[np.bool_] = flat > threshold
    excess = flat.size - np.count_nonzero(keep) - count
    if excess:
        ties = np.flatnonzero(flat == threshold)
        keep[ties[ties.size - excess :]] = True
    return keep


def smallest(flat: NDArray[Any], count: int) -> Any:
    """The `count`-th smallest of the scores, counted from 1.

    A partial sort is linear where a full one costs tens of times as much; but
    not among many equal values, which the weights pruned before are. So these
    are counted, and only the rest is sorted.

    Args:
        flat: Array of one dimension, without NaN.
        count: Integer of at least 1.

    Returns:
        A scalar of the array's dtype.
    """
    lowest = flat.min()
    others = flat[flat > lowest]
    rank = count - (flat.size - others.size)
    if rank <= 0:
        return lowest
    others.partition(rank - 1)
    return others[rank - 1]


def keep_groups(
    scores: NDArray[Any],
    sizes: NDArray[np.integer[Any]],
    sparsity: float,
    total: int,
) -> NDArray[np.bool_]:
    """Marks the groups that stay when a share of the weights goes.

    Args:
        scores: Array of one dimension, a score a group, without NaN.
        sizes: Array of one dimension, the weights that go with each group.
        sparsity: Float in `[0, 1)`. The share of weights that go.
        total: Integer. The weights of the kernel.

    Returns:
        Boolean array. The lowest groups go, so many that the number of
        weights is nearest to `sparsity * total`; where a kernel is made of
        its groups, one stays.
    """
    limit = most_groups(sizes, total)
    size = common_size(sizes)
    if size is not None:
        return keep_highest(scores, min(round(sparsity * total / size), limit))
    order = np.argsort(scores, kind="stable")
    gone = np.cumsum(sizes[order])
    keep = np.ones(scores.shape, dtype=bool)
    keep[order[: min(nearest_count(gone, sparsity * total), limit)]] = False
    return keep


def nearest_count(gone: NDArray[np.integer[Any]], target: float) -> int:
    """How many groups take the running sum `gone` nearest to `target`."""
    count = int(np.searchsorted(gone, target))
    before = float(gone[count - 1]) if count else 0.0
    if count < gone.size and float(gone[count]) - target < target - before:
        return count + 1
    return count


def most_groups(sizes: NDArray[np.integer[Any]], total: int) -> int:
    """The number of groups that may go while a weight stays."""
    size = common_size(sizes)
    whole = sizes.size * size if size is not None else int(np.sum(sizes))
    return int(sizes.size) - (whole >= total)


def common_size(sizes: NDArray[np.integer[Any]]) -> int | None:
    """The size of all groups, or `None` if they differ."""
    if sizes.size == 0:
        return None
    # Sizes that are all equal come as one number, broadcast.
    if sizes.strides == (0,) or sizes.min() == sizes.max():
        return int(sizes[0])
    return None
