"""Pruned weights come back when they would have grown large."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured


class Splicing(Configured):
    """Dynamic network surgery: pruned weights go on being trained unseen.

    The gradient goes on changing the values that pruned weights would have,
    and the scores are computed on these; wherever the pattern then prefers
    one of them to a weight in use, the two change places. The mask that the
    pattern made is already that choice, so `regrow` adds nothing to it, and
    masks of every pattern stay what they are.

    Example:
    >>> keep, rng = np.array([True, False]), np.random.default_rng(0)
    >>> Splicing().regrow(keep, np.array([2.0, 1.0]), 10, 100, rng)
    array([ True, False])

    References:
        [Guo et al., 2016](https://arxiv.org/abs/1608.04493)
    """

    statistics: tuple[str, ...] = ()
    keeps_pruned_weights = True
    keeps_pattern = True

    def regrow(
        self,
        keep: NDArray[np.bool_],
        scores: NDArray[Any],
        step: int,
        end_step: int | None,
        rng: np.random.Generator,
        **statistics: NDArray[Any],
    ) -> NDArray[np.bool_]:
        """The mask as it is: it was chosen with the pruned weights in view.

        Args:
            keep: Boolean array, the mask that the pattern made of scores of
                the weights that are kept aside.
            scores: Not used.
            step: Not used.
            end_step: Not used.
            rng: Not used.
            **statistics: Not used.

        Returns:
            A copy of `keep`.
        """
        return keep.copy()
