"""The rank that retains a share of the energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.low_rank.rank_fraction import check_share
from keras_squeeze.low_rank.rank_rules import RankRule


class Energy(RankRule):
    """Keeps as few singular values as hold a share of the energy.

    The energy is the sum of the squared singular values. What is left out
    is the squared relative error: at an energy of 0.99 the kernel changes by
    no more than a tenth of its norm. A method with several ranks shares
    the loss out among them, so that its kernel as a whole retains the energy.

    Args:
        energy: Float in `(0, 1]`.

    Raises:
        SqueezeError: If `energy` lies outside.

    Example:
    >>> Energy(0.9).rank(np.array([3.0, 1.0, 0.1]), rows=3, columns=3)
    2
    """

    def __init__(self, energy: float) -> None:
        self.energy = check_share("energy", energy)

    def ranks(
        self,
        spectra: Sequence[NDArray[Any]],
        unfoldings: Sequence[tuple[int, int]],
    ) -> tuple[int, ...]:
        """The ranks that together retain the energy.

        Args:
            spectra: Sequence of arrays, the singular values of each
                unfolding.
            unfoldings: Sequence of pairs, the rows and columns of each.

        Returns:
            Tuple of integers.

        Raises:
            SqueezeError: If a spectrum does not fit its unfolding.
        """
        stricter = Energy(1 - (1 - self.energy) / max(1, len(spectra)))
        pairs = zip(spectra, unfoldings, strict=True)
        return tuple(stricter.rank(values, *size) for values, size in pairs)

    def keep(self, values: NDArray[np.float64], rows: int, columns: int) -> int:
        """The first rank at which the sum of squares reaches the share."""
        sums = np.cumsum(values**2)
        return 1 + int(np.searchsorted(sums, self.energy * sums[-1]))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal rule."""
        return {"energy": self.energy}
