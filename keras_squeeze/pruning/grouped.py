"""What patterns share: groups are pooled, ranked, and removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning import ranking
from keras_squeeze.pruning.configured import Configured
from keras_squeeze.schedules import check_sparsity


class Grouped(Configured, ABC):
    """Base of the patterns that remove the groups of the lowest scores.

    Subclasses say what the groups are (`group_sizes`), what each is worth
    (`group_scores`), and which weights a group holds (`_spread`).
    """

    #: Up to which sparsity the pattern exists.
    max_sparsity: float = 1.0

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
            sparsity: Float in `[0, 1)`. The share of weights that go, rounded
                to whole groups.
            channel_axis: Tuple of integers. The axes of the kernel that index
                its output channels. Defaults to `(-1,)`.

        Returns:
            Boolean array of the scores' shape, true where a weight stays. At
            least one group stays. Of equal scores the earlier go, so that
            masks are equal on every machine.

        Raises:
            SqueezeError: If the sparsity is out of range, or the pattern does
                not fit the shape.
        """
        scores = ranking.without_nan(np.asarray(scores))
        sparsity = check_reachable(self, sparsity)
        sizes = self.group_sizes(scores.shape, channel_axis)
        if sparsity == 0:
            return np.ones(scores.shape, dtype=bool)
        groups = self.group_scores(scores, channel_axis)
        keep = ranking.keep_groups(groups, sizes, sparsity, scores.size)
        return self._spread(keep, scores, channel_axis)

    @abstractmethod
    def group_scores(
        self, scores: NDArray[Any], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.floating[Any]]:
        """Pools the scores of the weights that go together.

        Args:
            scores: Array of scores of one kernel.
            channel_axis: Tuple of integers. The kernel's output axes.
                Defaults to `(-1,)`.

        Returns:
            Array of one dimension, a score a group, without NaN.
        """

    @abstractmethod
    def group_sizes(
        self, shape: tuple[int, ...], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.integer[Any]]:
        """Counts the weights that go when a group goes.

        Args:
            shape: Tuple of integers. The kernel's shape.
            channel_axis: Tuple of integers. The kernel's output axes.
                Defaults to `(-1,)`.

        Returns:
            Array of one dimension, in the order of `group_scores`.
        """

    @abstractmethod
    def _spread(
        self,
        keep: NDArray[np.bool_],
        scores: NDArray[Any],
        channel_axis: tuple[int, ...],
    ) -> NDArray[np.bool_]:
        """The mask of the weights from the mask of the groups."""


def check_reachable(pattern: Any, sparsity: float) -> float:
    """Refuses a sparsity that a pattern does not have.

    Args:
        pattern: A `Pattern`.
        sparsity: Float. The sparsity wanted.

    Returns:
        The sparsity.

    Raises:
        SqueezeError: If it is not in `[0, 1)`, or above the pattern's own.
    """
    sparsity = check_sparsity("sparsity", sparsity)
    highest = getattr(pattern, "max_sparsity", 1.0)
    # A schedule's arithmetic may end a rounding error above the target.
    if sparsity > highest + 1e-9:
        raise SqueezeError(
            f"Expected a sparsity of at most {highest:.6g}, the highest that "
            f"the pattern {pattern!r} has. Received: {sparsity!r}"
        )
    return sparsity
