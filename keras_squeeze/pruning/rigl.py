"""Weights change places with those of the largest gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.annealing import annealed, check_fraction
from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.exchange import lowest_kept
from keras_squeeze.pruning.ranking import keep_highest, without_nan
from keras_squeeze.pruning.statistics import statistic


class RigL(Configured):
    """The rigged lottery: the lowest go, those of large gradients come.

    Of the kept weights the fraction with the lowest scores gives way; of all
    weights that are then not in use, those with the largest mean absolute
    gradients grow, from zero. A weight that gave way may itself be among
    them, and then simply stays. The fraction falls along half a cosine until
    the masks are final.

    Args:
        fraction: Float in `(0, 1]`. The share of the kept weights that is
            exchanged at step 0. Defaults to `0.3`.

    Example:
    >>> keep = np.array([True, True, False, False])
    >>> scores, rng = np.array([1.0, 2.0, 0.0, 0.0]), np.random.default_rng(0)
    >>> gradient = np.array([0.1, 0.1, 0.1, 0.9])
    >>> RigL(0.5).regrow(keep, scores, 0, 100, rng, gradient_l1=gradient)
    array([False,  True, False,  True])

    References:
        [Evci et al., 2020](https://arxiv.org/abs/1911.11134)
    """

    statistics: tuple[str, ...] = ("gradient_l1",)
    keeps_pruned_weights = False
    keeps_pattern = False

    def __init__(self, fraction: float = 0.3) -> None:
        self.fraction = check_fraction(fraction)

    def regrow(
        self,
        keep: NDArray[np.bool_],
        scores: NDArray[Any],
        step: int,
        end_step: int | None,
        rng: np.random.Generator,
        **statistics: NDArray[Any],
    ) -> NDArray[np.bool_]:
        """Exchanges the lowest kept weights for those of large gradients.

        Args:
            keep: Boolean array, the mask that the pattern made.
            scores: Array of its shape, the criterion's scores.
            step: Integer. The current step.
            end_step: Optional integer. The step from which on nothing changes.
            rng: Not used.
            **statistics: `gradient_l1`, the mean absolute gradients.

        Returns:
            Boolean array with as many true values as `keep`.

        Raises:
            SqueezeError: If the statistic is missing.
        """
        gradient = statistic(self, statistics, "gradient_l1", keep.shape)
        kept = int(np.count_nonzero(keep))
        share = annealed(self.fraction, step, end_step)
        count = min(round(share * kept), keep.size - kept)
        new = keep.copy()
        new.flat[lowest_kept(keep, scores, count)] = False
        free = np.flatnonzero(~new)
        grown = keep_highest(
            without_nan(gradient.ravel()[free]), free.size - count
        )
        new.flat[free[grown]] = True
        return new

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal regrowth."""
        return {"fraction": self.fraction}
