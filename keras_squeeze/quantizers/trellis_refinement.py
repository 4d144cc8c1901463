"""Codes chosen by what the coder's model itself asks for them.

Classes of expected magnitude tell rates roughly. The model of the coder
knows more: what neighbours and components foresee, signs included. It is run
over the codes found so far, says what every other level would have cost at
its place, and the trellis is searched anew by these costs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.context_mixing_costs import (
    LARGEST_COST,
    available,
    level_costs,
)
from keras_squeeze.codecs.kernel_geometry import KernelGeometry
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.quantizers.trellis_chains import ChainOrder
from keras_squeeze.quantizers.trellis_search import SearchProblem, search_path

#: From how many states on codes are refined: it takes longer than the search
#: of fewer ones.
REFINED_STATES = 64

# How often the model is run. Costs are the mean of two runs from the second
# on: those of one alone know the codes before too well.
_RUNS = 2

# d(error) / d(bits), in squared steps: exact rates pay a little less than
# `TRELLIS_EXCHANGE_RATE` for a bit.
_EXCHANGE_RATE = 0.33
_UNITS_PER_BIT = 256

# Without the compiled kernel a weight takes about a millisecond.
_MOST_SLOWLY = 512

# What classes and rates are where costs replace them.
_NO_CLASSES = np.zeros((0, 0), np.uint8)
_NO_RATES = np.zeros((1, 2, 1), np.float32)


def is_worthwhile(codes: NDArray[np.int32]) -> bool:
    """Whether the model can be run over codes, within a sensible time.

    Args:
        codes: int32 array.

    Returns:
        Boolean.
    """
    if not available() and codes.size > _MOST_SLOWLY:
        return False
    return bool(codes.size) and bool(codes.min() != codes.max())


@dataclasses.dataclass(frozen=True, eq=False)
class Refinement:
    """What stays the same from run to run.

    Args:
        in_steps: float32 array of shape `(channels, taps, inputs)`, the
            weights in units of the codes.
        importance: float32 array as `order` arranges it, or `None`.
        order: `ChainOrder`.
        geometry: `KernelGeometry`.
        trellis: `Trellis`.
        rate_weight: Float, as in `TrellisQuantizer`.
        largest: Integer. No code may be larger.
    """

    in_steps: NDArray[np.float32]
    importance: NDArray[np.float32] | None
    order: ChainOrder
    geometry: KernelGeometry
    trellis: Trellis
    rate_weight: float
    largest: int

    def refine(self, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Searches anew, by the costs the model gives.

        Args:
            codes: int32 array of shape `(channels, taps, inputs)` that the
                trellis allows.

        Returns:
            int32 array of the same shape.
        """
        mean: NDArray[np.uint16] | None = None
        for _ in range(_RUNS):
            if not is_worthwhile(codes):
                return codes
            costs = level_costs(
                codes, self.in_steps, self.geometry, self.trellis
            )
            if mean is not None:
                costs = (costs >> 1) + (mean >> 1) + (costs & mean & 1)
            mean = costs
            codes = self._search(self._legal(costs))
        return codes

    def _legal(self, costs: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """The same, where levels of codes too large are forbidden."""
        size = np.abs(self.in_steps)
        if float(size.max()) + 3 <= self.largest:
            return costs
        costs = costs.copy()
        for grid in range(2):
            nearest = (size + np.float32(grid)) * np.float32(0.5)
            for choice in range(1, 4):
                level = nearest.astype(np.int32) + choice - 2
                too_large = 2 * level - grid > self.largest
                costs[too_large, grid, choice] = LARGEST_COST
        return costs

    def _search(self, costs: NDArray[np.uint16]) -> NDArray[np.int32]:
        values = self.order.to_chains(self.in_steps)
        in_chains = np.empty((*values.shape, 2, 4), np.uint16)
        for grid, choice in np.ndindex(2, 4):
            in_chains[:, :, grid, choice] = self.order.to_chains(
                costs[..., grid, choice]
            )
        unit = self.rate_weight * _EXCHANGE_RATE / _UNITS_PER_BIT
        problem = SearchProblem(
            values, self.importance, _NO_CLASSES, _NO_RATES, in_chains, unit
        )
        path = search_path(problem, self.trellis.states)
        return self.order.from_chains(path.codes)
