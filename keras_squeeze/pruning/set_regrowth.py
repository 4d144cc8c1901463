"""Weights change places with others at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.annealing import annealed, check_fraction
from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.exchange import lowest_kept


class SET(Configured):
    """Sparse evolutionary training: the lowest go, random ones come.

    Of the kept weights the fraction with the lowest scores is pruned, and as
    many of those pruned before, drawn at random, grow from zero. The fraction
    falls along half a cosine until the masks are final; the paper holds it.

    Args:
        fraction: Float in `(0, 1]`. The share of the kept weights that is
            exchanged at step 0. Defaults to `0.3`.

    Example:
    >>> keep = np.array([True, True, False, False])
    >>> scores, rng = np.array([1.0, 2.0, 0.0, 0.0]), np.random.default_rng(0)
    >>> SET(0.5).regrow(keep, scores, 0, 100, rng).sum()
    np.int64(2)

    References:
        [Mocanu et al., 2018](https://arxiv.org/abs/1707.04780)
    """

    statistics: tuple[str, ...] = ()
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
        """Exchanges the lowest of the kept weights for random pruned ones.

        Args:
            keep: Boolean array, the mask that the pattern made.
            scores: Array of its shape, the criterion's scores.
            step: Integer. The current step.
            end_step: Optional integer. The step from which on nothing changes.
            rng: The `numpy.random.Generator` to draw from.
            **statistics: Not used.

        Returns:
            Boolean array with as many true values as `keep`.
        """
        pruned = np.flatnonzero(~keep)
        share = annealed(self.fraction, step, end_step)
        count = min(round(share * (keep.size - pruned.size)), pruned.size)
        new = keep.copy()
        new.flat[lowest_kept(keep, scores, count)] = False
        new.flat[rng.choice(pruned, count, replace=False)] = True
        return new

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal regrowth."""
        return {"fraction": self.fraction}
