"""What other levels would cost in place of those that are coded.

A quantizer that knows these costs chooses the levels that this very model
codes cheaply, with all it has learned by then. The model learns from the
codes of the pass before, so costs are those of one change alone.

Costs are in 1/256 bit. The probabilities of all answers on the way to a level
are added up as logarithms; two signs of one weight cost the same on both
grids, and the lower bits of large levels a bit each.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_squeeze.codecs import context_mixing_fit as fit
from keras_squeeze.codecs import context_mixing_header as headers
from keras_squeeze.codecs import context_mixing_model as models
from keras_squeeze.codecs import context_mixing_native as kernel
from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs.context_mixing_coder import Encoder
from keras_squeeze.codecs.context_mixing_model import Model
from keras_squeeze.codecs.context_mixing_prediction import Weight
from keras_squeeze.codecs.context_mixing_reference import Scan
from keras_squeeze.codecs.kernel_geometry import KernelGeometry
from keras_squeeze.codecs.trellis import Trellis

#: The cost of a level that is not worth a look.
LARGEST_COST = 65535

#: The levels of each grid whose costs are given.
ZERO, BELOW, NEAREST, ABOVE = range(4)

# From this nearest level on, zero is not worth a look.
_FAR = 4


def available() -> bool:
    """Whether the compiled kernel is there: the reference is slow."""
    return kernel.costs_kernel() is not None


def level_costs(
    codes: np.ndarray,
    wanted: np.ndarray,
    geometry: KernelGeometry,
    trellis: Trellis,
) -> np.ndarray:
    """The costs of the levels around each weight, while `codes` are coded.

    Args:
        codes: int32 array of shape `(channels, taps, inputs)`, not all equal,
            that the trellis allows.
        wanted: float32 array of the same shape, the weights in units of the
            codes, magnitudes up to 65536.
        geometry: `KernelGeometry`.
        trellis: `Trellis`.

    Returns:
        uint16 array of shape `(channels, taps, inputs, 2, 4)`, in 1/256 bit:
        on either grid the costs of level 0, of the level below the nearest
        one, of the nearest (rounded down, as the search does), and of that
        above.
    """
    model = fit.fit_model(codes, models.PREDICTED_SIGNS, trellis=trellis)
    states = np.zeros(min(trellis.chains, geometry.channels), np.uint8)
    costs = np.empty((*codes.shape, 2, 4), np.uint16)
    for channels in headers.block_channels(geometry):
        part = slice(channels.start, channels.stop)
        block = _Block(model, geometry.width, states, channels.start)
        values = np.ascontiguousarray(codes[part], np.int32)
        targets = np.ascontiguousarray(wanted[part], np.float32)
        if available():
            block.weigh(values, targets, costs[part])
        else:
            block.weigh_slowly(values, targets, costs[part])
    return costs


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """What a block needs besides its values; `states` move on."""

    model: Model
    width: int
    states: np.ndarray
    first_channel: int

    def weigh(
        self,
        values: np.ndarray,
        wanted: np.ndarray,
        costs: np.ndarray,
        portable: bool = False,
    ) -> None:
        """Fills `costs` by the compiled kernel."""
        kernel.weigh(
            *(self.model, values, self.width, self.states),
            *(self.first_channel, wanted, costs, portable),
        )

    def weigh_slowly(
        self, values: np.ndarray, wanted: np.ndarray, costs: np.ndarray
    ) -> None:
        """Fills `costs` by the reference."""
        coder = Encoder()
        scan = CostScan(
            *(self.model, values, self.width, coder),
            *(self.states, self.first_channel),
        )
        scan.weigh(wanted, costs)


class CostScan(Scan):
    """Codes a block, and notes what other levels would have cost."""

    def weigh(self, wanted: np.ndarray, costs: np.ndarray) -> None:
        """Codes the block.

        Args:
            wanted: float32 array of shape `(channels, taps, inputs)`.
            costs: uint16 array with two axes of 2 and 4 more, filled.
        """
        shape = len(wanted), -1
        sizes = np.abs(wanted).reshape(shape)
        self._negative = (wanted < 0).reshape(shape)
        self._nearest = [
            ((sizes + np.float32(grid)) * np.float32(0.5)).astype(np.int32)
            for grid in range(2)
        ]
        self._costs = costs.reshape(*shape, 2, 4)
        self.run()

    def _begin_channel(self, index: int) -> None:
        self._channel = index
        super()._begin_channel(index)

    def _code_level(
        self, weight: Weight, contexts: list[int], level: int
    ) -> int:
        at = self._channel, weight.place
        nearest = [int(levels[at]) for levels in self._nearest]
        sign = self._sign_cost(weight, max(nearest[1], 1), self._negative[at])
        for grid, level_there in enumerate(nearest):
            there = dataclasses.replace(weight, odd=bool(grid))
            self._costs[(*at, grid)] = self._grid_costs(
                there, contexts, level_there, sign
            )
        return super()._code_level(weight, contexts, level)

    def _sign_cost(self, weight: Weight, level: int, negative: bool) -> int:
        if self._model.sign_mode == models.RAW_SIGNS:
            return 256
        places = self._sign_places(weight, level)
        p = self._mixer.probability([self._signs] * 8, places, 0)
        return _cost(p if negative else 65536 - p)

    def _grid_costs(
        self, weight: Weight, contexts: list[int], nearest: int, sign: int
    ) -> list[int]:
        low = 0 if nearest < _FAR else self._bucket(nearest - 1)
        high = self._bucket(nearest + 1)
        buckets = self._bucket_costs(weight, contexts, low, high)
        costs = []
        for level in (0, nearest - 1, nearest, nearest + 1):
            cost = LARGEST_COST
            if level > 0 or (level == 0 and low == 0):
                bucket = self._bucket(level)
                cost = buckets[bucket] + (sign if level else 0)
                cost += 256 * ((bucket >> 2) - 1) * (bucket >= tables.EXACT)
            costs.append(min(cost, LARGEST_COST))
        return costs

    def _bucket(self, level: int) -> int:
        """The bucket of a level, the last one for those beyond."""
        return min(tables.bucket_of(level), self._model.buckets - 1)

    def _bucket_costs(
        self, weight: Weight, contexts: list[int], low: int, high: int
    ) -> dict[int, int]:
        last, costs = self._model.buckets - 1, {}
        at = int(self._starts[weight.odd][weight.scale_class])
        up, down = self._node_costs(weight, contexts, 3 * at)
        for bucket in range(at + 1, high + 1):
            yes = no = 0
            if bucket < last:
                yes, no = self._node_costs(weight, contexts, 3 * bucket + 1)
            costs[bucket] = up + no
            up += yes
        for bucket in range(at, low - 1, -1):
            yes = no = 0
            if bucket > 0:
                yes, no = self._node_costs(weight, contexts, 3 * bucket + 2)
            costs[bucket] = down + no
            down += yes
        return costs

    def _node_costs(
        self, weight: Weight, contexts: list[int], node: int
    ) -> tuple[int, int]:
        """The costs of a yes and of a no."""
        if weight.odd and node < 12:
            node += 3 * self._model.buckets
        slots = [
            nodes[context]
            for nodes, context in zip(self._nodes, contexts, strict=True)
        ]
        p = self._mixer.probability(slots, [node] * 8, self._sets[node])
        return _cost(p), _cost(65536 - p)


def _cost(probability: int) -> int:
    return 4096 - tables.logarithm(probability)
