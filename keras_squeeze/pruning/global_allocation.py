"""One ranking over all kernels: the lowest scores of the whole model go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning import ranking
from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.error_paths import path_in_errors
from keras_squeeze.pruning.grouped import check_reachable
from keras_squeeze.pruning.patterns import GroupedPattern, Pattern
from keras_squeeze.pruning.survivors import check_min_weights


class Global(Configured):
    """Removes the lowest scores of all kernels together.

    Kernels full of small scores lose more than others; whether that is what
    one wants depends on scores that can be compared between kernels, as those
    of gradient-based criteria can. The total is exact to one weight, or to
    one group of a structured pattern.

    Args:
        min_weights: Integer. So many weights survive in every kernel, all of
            them in kernels that have fewer; the others lose more instead.
            Defaults to `1`.

    Example:
    >>> scores = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 6.0])]
    >>> axes = [(-1,), (-1,)]
    >>> pattern = ks.pruning.Unstructured()
    >>> Global().sparsities(scores, ["a", "b"], 0.5, pattern, axes)
    [0.75, 0.0]

    References:
        [Blalock et al., 2020](https://arxiv.org/abs/2003.03033)
    """

    needs_scores = True

    def __init__(self, min_weights: int = 1) -> None:
        self.min_weights = check_min_weights(min_weights)

    def sparsities(
        self,
        scores: Sequence[NDArray[Any]],
        names: Sequence[str],
        sparsity: float,
        pattern: Pattern,
        channel_axes: Sequence[tuple[int, ...]],
    ) -> list[float]:
        """Gives each kernel its sparsity.

        Args:
            scores: Sequence of arrays, the scores of each kernel.
            names: Sequence of strings, the kernels' paths.
            sparsity: Float in `[0, 1)`. The sparsity of all together.
            pattern: The `Pattern` that will make the masks; one that ranks
                groups.
            channel_axes: Sequence of tuples, the output axes of each kernel.

        Returns:
            List of floats in `[0, 1)`, one a kernel.

        Raises:
            SqueezeError: If the pattern does not have that sparsity or ranks
                no groups, or a kernel's shape does not fit it.
        """
        sparsity = check_reachable(pattern, sparsity)
        if not isinstance(pattern, GroupedPattern):
            raise SqueezeError(
                "Expected a pattern with `group_scores` and `group_sizes`, by "
                "which groups of several kernels are ranked. "
                f"Received: {pattern!r}"
            )
        groups, sizes = [], []
        for kernel, name, axes in zip(scores, names, channel_axes, strict=True):
            with path_in_errors(name):
                sizes.append(pattern.group_sizes(kernel.shape, axes))
            groups.append(pattern.group_scores(kernel, axes))
        totals = [int(kernel.size) for kernel in scores]
        limits = [
            _limit(size, total, self.min_weights)
            for size, total in zip(sizes, totals, strict=True)
        ]
        counts = _counts(groups, sizes, limits, sparsity * sum(totals))
        return [
            _weights_of_lowest(group, size, count) / max(1, total)
            for group, size, count, total in zip(
                groups, sizes, counts, totals, strict=True
            )
        ]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal allocation."""
        return {"min_weights": self.min_weights}


def _limit(
    sizes: NDArray[np.integer[Any]], total: int, min_weights: int
) -> int:
    """The number of groups that one kernel may lose."""
    if sizes.size == 0:
        return 0
    largest = ranking.common_size(sizes) or int(sizes.max())
    spare = max(0, total - min_weights) // max(1, largest)
    return min(ranking.most_groups(sizes, total), spare)


def _counts(
    groups: list[NDArray[Any]],
    sizes: list[NDArray[np.integer[Any]]],
    limits: list[int],
    target: float,
) -> list[int]:
    """The number of groups that each kernel loses.

    Kernels that would lose more than they may are set to their limit, and the
    rest is ranked anew, until none is left; as the threshold only rises, that
    is the same as ranking without the groups that must stay.
    """
    counts = list(limits)
    free = list(range(len(groups)))
    while free:
        found = _lowest_counts(
            [groups[k] for k in free], [sizes[k] for k in free], target
        )
        over = [k for k, n in zip(free, found, strict=True) if n > limits[k]]
        if not over:
            for k, count in zip(free, found, strict=True):
                counts[k] = count
            break
        for k in over:
            target -= _weights_of_lowest(groups[k], sizes[k], limits[k])
        free = [k for k in free if k not in over]
    return counts


def _lowest_counts(
    groups: list[NDArray[Any]],
    sizes: list[NDArray[np.integer[Any]]],
    target: float,
) -> list[int]:
    """How many of the lowest groups of all lie in each kernel."""
    common = {ranking.common_size(each) for each in sizes}
    if len(common) > 1 or None in common:
        return _lowest_counts_by_size(groups, sizes, target)
    size = common.pop() or 1
    total = sum(each.size for each in groups)
    left = min(max(0, round(target / size)), total)
    if left == 0:
        return [0] * len(groups)
    threshold = _smallest_of_all(groups, left)
    counts = [int(np.count_nonzero(each < threshold)) for each in groups]
    left -= sum(counts)
    for k, each in enumerate(groups):
        ties = min(left, int(np.count_nonzero(each == threshold)))
        counts[k] += ties
        left -= ties
    return counts


def _smallest_of_all(groups: list[NDArray[Any]], count: int) -> Any:
    """The `count`-th smallest over all kernels, counted from 1."""
    lowest = min(each.min() for each in groups if each.size)
    # Weights pruned before share the lowest score: only the rest is copied.
    rest = _above(groups, lowest)
    rank = count - (sum(each.size for each in groups) - rest.size)
    if rank <= 0:
        return lowest
    rest.partition(rank - 1)
    return rest[rank - 1]


def _above(groups: list[NDArray[Any]], lowest: Any) -> NDArray[Any]:
    """The scores above the lowest, copied once."""
    places = [each > lowest for each in groups]
    ends = np.cumsum([np.count_nonzero(place) for place in places])
    rest = np.empty(ends[-1], np.result_type(*groups))
    for each, place, out in zip(
        groups, places, np.split(rest, ends[:-1]), strict=True
    ):
        out[...] = each[place]
    return rest


def _lowest_counts_by_size(
    groups: list[NDArray[Any]],
    sizes: list[NDArray[np.integer[Any]]],
    target: float,
) -> list[int]:
    """As `_lowest_counts`, where groups free different numbers of weights."""
    owners = np.repeat(np.arange(len(groups)), [each.size for each in groups])
    order = np.argsort(np.concatenate(groups), kind="stable")
    gone = np.cumsum(np.concatenate(sizes)[order])
    taken = order[: ranking.nearest_count(gone, max(0.0, target))]
    counts = np.bincount(owners[taken], minlength=len(groups))
    return [int(count) for count in counts]


def _weights_of_lowest(
    groups: NDArray[Any], sizes: NDArray[np.integer[Any]], count: int
) -> int:
    """The weights that go with the `count` lowest groups."""
    size = ranking.common_size(sizes)
    if size is not None or not count:
        return (size or 0) * count
    order = np.argsort(groups, kind="stable")
    return int(sizes[order[:count]].sum())
