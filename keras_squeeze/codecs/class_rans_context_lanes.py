"""The inner loops of `class_rans` in NumPy, where tokens decide contexts.

What `class_rans_lanes` does and besides: the tables of neighbours and of the
trellis, which are known only row by row, and the second and third step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_squeeze.codecs import trellis
from keras_squeeze.codecs.class_rans_contexts import NEIGHBOURS, codes_of
from keras_squeeze.codecs.class_rans_lanes import (
    STATE_LOW,
    Batch,
    LaneStream,
)
from keras_squeeze.codecs.class_rans_table import PRECISION, TOTAL

_U32 = np.uint32


class ContextBatch(Batch):
    """A batch of streams with neighbours, a trellis, escapes or raw bits.

    Args:
        streams: Sequence of `LaneStream`.
        only: Optional integer; see `Batch`.
    """

    out_dtype = np.int64

    def __init__(
        self, streams: Sequence[LaneStream], only: int | None = None
    ) -> None:
        super().__init__(streams, only)
        each = [self.streams[b.stream] for b in self.blocks]
        self.low = self._spread([s.low for s in each])
        self.shift = self._spread([s.shift for s in each])
        self.escape = self._spread([s.escape for s in each]).astype(_U32)
        self.escape_low = self._spread([s.escape_low for s in each])
        self.escape_shift = self._spread([s.escape_shift for s in each])
        bases = [
            self.bases[b.stream] + s.escape_base
            for b, s in zip(self.blocks, each, strict=True)
        ]
        self.escape_base = self._spread(bases).astype(_U32)
        near = [s.contexts.neighbour for s in each]
        self.threshold = self._spread([n.threshold if n else 0 for n in near])
        self.near_factor = self._spread(
            [
                (s.contexts.tables // s.contexts.scale.classes // NEIGHBOURS)
                << PRECISION
                if s.contexts.neighbour
                else 0
                for s in each
            ]
        )
        self.grid_factor = self._spread(
            [TOTAL if s.contexts.states else 0 for s in each]
        )
        self._lay_out_machines(each)
        self.any_neighbour = bool(self.near_factor.any())
        rows = self.blocks[0].rows if self.any_neighbour else 0
        # The last cell is the value of a neighbour that is not there.
        self.history = np.zeros(rows * self.x.size + 1, np.int32)

    def _spread(self, values: Sequence[int]) -> np.ndarray:
        return np.array(values, np.int64)[self.block_of]

    def _lay_out_machines(self, each: Sequence[LaneStream]) -> None:
        used = sorted({s.contexts.states for s in each} - {0})
        self.any_trellis = bool(used)
        tables = [trellis.next_states(states).reshape(-1) for states in used]
        starts = np.cumsum([0, *(t.size for t in tables)])
        base = dict(zip(used, starts.tolist(), strict=False))
        self.machine_base = self._spread(
            [base.get(s.contexts.states, 0) for s in each]
        )
        self.machine_next = np.concatenate([np.zeros(0, np.uint8), *tables])
        self.machine = np.concatenate(
            [
                s.machines[b.number]
                for b, s in zip(self.blocks, each, strict=True)
            ]
        ).astype(np.int64)

    def _steps(self, start: int, stop: int, active: int) -> np.ndarray:
        tiles = self._tile_numbers(start, stop, active)
        width = self.blocks[active - 1].lanes.stop
        values = np.empty((stop - start, width), np.int64)
        before = self._before(start, stop, active) if self.any_neighbour else ()
        grid = np.zeros(width, np.int64)
        bases = np.empty(width, _U32)
        for row, numbers in enumerate(tiles):
            self._tables_at(numbers, bases)
            index = bases.copy()
            if self.any_neighbour:
                index += self._near(before[row])
            if self.any_trellis:
                grid = self.machine[:width] & 1
                index += (grid * self.grid_factor[:width]).astype(_U32)
            idle = bases == self.bases[-1]
            np.copyto(index, bases, where=idle)
            levels = self._elements(index, active)
            if self.any_neighbour:
                at = (start + row) * self.x.size
                self.history[at : at + width] = levels
            if self.any_trellis:
                values[row] = self._follow(levels, grid)
            else:
                values[row] = levels
        return values

    def _before(self, start: int, stop: int, active: int) -> np.ndarray:
        """For each row and lane, where in the history its neighbour is."""
        width = self.blocks[active - 1].lanes.stop
        out = np.full((stop - start, width), self.history.size - 1, np.int64)
        for block in self.blocks[:active]:
            stream = self.streams[block.stream]
            if stream.contexts.neighbour is None:
                continue
            distance = stream.contexts.neighbour.distance
            row = np.arange(start, stop)
            position = row + block.number * stream.block_rows
            position %= stream.layout.positions
            inside = np.minimum(row, position) >= distance
            lanes = np.arange(block.lanes.start, block.lanes.stop)
            cells = (row - distance)[:, None] * self.x.size + lanes
            out[inside, block.lanes] = cells[inside]
        return out

    def _near(self, cells: np.ndarray) -> np.ndarray:
        value = self.history.take(cells)
        threshold = self.threshold[: cells.size]
        kind = 2 + (value > 0) + (value > threshold)
        kind = kind - (value < 0) - (value < -threshold)
        index: np.ndarray = kind * self.near_factor[: cells.size]
        return index.astype(_U32)

    def _elements(self, index: np.ndarray, active: int) -> np.ndarray:
        width = index.size
        taking_part = index < self.bases[-1]
        token = self._step(index, active) & _U32(255)
        values: np.ndarray = self.low[:width] + (
            token.astype(np.int64) << self.shift[:width]
        )
        widths = np.where(taking_part, self.shift[:width], 0)
        escaped = (token == self.escape[:width]).nonzero()[0]
        escaped = escaped[taking_part[escaped]]
        if escaped.size:
            base = self.escape_base.take(escaped)
            found = self._some_step(escaped, base, active).astype(np.int64)
            widths[escaped] = self.escape_shift.take(escaped)
            found <<= widths[escaped]
            values[escaped] = self.escape_low.take(escaped) + found
        raw = widths.nonzero()[0]
        if raw.size:
            values[raw] += self._raw_step(raw, widths[raw], active)
        return values

    def _follow(self, levels: np.ndarray, grid: np.ndarray) -> np.ndarray:
        width = levels.size
        follows = self.grid_factor[:width] > 0
        place = self.machine_base[:width] + 2 * self.machine[:width]
        after = self.machine_next.take(place + (levels & 1), mode="clip")
        self.machine[:width] = after
        return np.where(follows, codes_of(levels, grid), levels)

    def _some_step(
        self, lanes: np.ndarray, index: np.ndarray, active: int
    ) -> np.ndarray:
        """A step of some lanes only."""
        x = self.x.take(lanes)
        entry = self.tables.take(index + (x & _U32(TOTAL - 1)), mode="clip")
        x >>= _U32(PRECISION)
        x *= (entry >> _U32(8) & _U32(TOTAL - 1)) + _U32(1)
        x += entry >> _U32(20)
        self.x[lanes] = x
        self._feed(lanes[x < STATE_LOW], active)
        token: np.ndarray = entry & _U32(255)
        return token

    def _raw_step(
        self, lanes: np.ndarray, widths: np.ndarray, active: int
    ) -> np.ndarray:
        """A step of some lanes among equal shares of `2**widths` values."""
        below = (PRECISION - widths).astype(_U32)
        x = self.x.take(lanes)
        slot = x & _U32(TOTAL - 1)
        x = ((x >> _U32(PRECISION)) << below) + (slot & ((1 << below) - 1))
        self.x[lanes] = x
        self._feed(lanes[x < STATE_LOW], active)
        value: np.ndarray = slot >> below
        return value
