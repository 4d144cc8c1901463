"""Any weight may go: the lowest scores of the whole kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning import ranking
from keras_squeeze.pruning.axes import inner_axes, output_axes
from keras_squeeze.pruning.grouped import Grouped, check_reachable


class Unstructured(Grouped):
    """Prunes exactly `round(sparsity * size)` weights, wherever they are.

    Ties are broken by position, so that equal scores give equal masks on
    every machine. At least one weight stays.

    Args:
        per_channel: Boolean. Whether scores are compared within each output
            channel only, so that all channels lose the same share (give or
            take one weight). Criteria that weigh inputs, as
            `Activation`, are meant to be compared that way. Defaults
            to `False`.

    Example:
    >>> Unstructured().mask(np.array([[4.0, 1.0], [2.0, 3.0]]), 0.5)
    array([[ True, False],
           [False,  True]])
    """

    def __init__(self, per_channel: bool = False) -> None:
        self.per_channel = bool(per_channel)

    def mask(
        self,
        scores: NDArray[Any],
        sparsity: float,
        channel_axis: tuple[int, ...] = (-1,),
    ) -> NDArray[np.bool_]:
        """Marks the weights that stay.

        Args:
            scores: Array of scores, the higher, the more a weight matters.
                NaN counts as the highest.
            sparsity: Float in `[0, 1)`. The share of weights that go.
            channel_axis: Tuple of integers. The axes of the kernel that index
                its output channels; used with `per_channel` alone. Defaults
                to `(-1,)`.

        Returns:
            Boolean array of the scores' shape, true where a weight stays.

        Raises:
            SqueezeError: If the sparsity is not in `[0, 1)`.
        """
        if not self.per_channel:
            return super().mask(scores, sparsity, channel_axis)
        scores = ranking.without_nan(np.asarray(scores))
        sparsity = check_reachable(self, sparsity)
        count = min(round(sparsity * scores.size), scores.size - 1)
        outer = output_axes(scores.shape, channel_axis)
        order = (*outer, *inner_axes(scores.shape, channel_axis))
        moved = np.transpose(scores, order)
        channels = int(np.prod(moved.shape[: len(outer)]))
        keep = _keep_in_rows(moved.reshape(channels, -1), count)
        back = keep.reshape(moved.shape).transpose(np.argsort(order))
        return np.ascontiguousarray(back)

    def group_scores(
        self, scores: NDArray[Any], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.floating[Any]]:
        """The scores as they are: every weight is a group.

        Args:
            scores: Array of scores of one kernel.
            channel_axis: Not used.

        Returns:
            Array of one dimension; a view where nothing has to be changed.
        """
        return ranking.without_nan(np.ravel(scores))

    def group_sizes(
        self, shape: tuple[int, ...], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.integer[Any]]:
        """Ones: a weight goes alone.

        Args:
            shape: Tuple of integers. The kernel's shape.
            channel_axis: Not used.

        Returns:
            Read-only array of one dimension.
        """
        return np.broadcast_to(np.intp(1), int(np.prod(shape)))

    def _spread(
        self,
        keep: NDArray[np.bool_],
        scores: NDArray[Any],
        channel_axis: tuple[int, ...],
    ) -> NDArray[np.bool_]:
        return keep.reshape(scores.shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal pattern."""
        return {"per_channel": self.per_channel}


def _keep_in_rows(rows: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Removes `count` scores, equally many a row; the first rows lose more."""
    each, more = divmod(count, rows.shape[0])
    # Half the rows may lose one weight more: two orders of each row serve.
    ranks = [rank for rank in (each - 1, each) if 0 <= rank < rows.shape[1]]
    parted = np.partition(rows, ranks, axis=1)
    counts = np.full((rows.shape[0], 1), each)
    counts[:more] += 1
    threshold = np.take_along_axis(parted, np.maximum(counts - 1, 0), axis=1)
    keep: NDArray[np.bool_] = (rows > threshold) | (counts == 0)
    excess = rows.shape[1] - np.count_nonzero(keep, axis=1) - counts[:, 0]
    for row in np.flatnonzero(excess):
        ties = np.flatnonzero(rows[row] == threshold[row])
        keep[row, ties[ties.size - excess[row] :]] = True
    return keep
