"""The inner loops of `class_rans` in NumPy: the specification in code.

A lane is a 32-bit state `x` in `2**16 .. 2**32 - 1`. To take a step in a table
of 4096 slots, where the token that owns slot `x mod 4096` has frequency `f`
and its slots start at `s`:

    slot = x mod 4096
    x = f * (x div 4096) + slot - s
    if x < 2**16: x = x * 2**16 + next 16-bit word of the block

A row takes up to three steps: all lanes that take part, in the table of their
context; then the lanes that found the escape token, in the escape table; then
those whose token stands for `2**b` values, in a table of `2**b` equal shares.
Within a step the lanes take their words in the order of the lanes. Encoding is
the same backwards. All blocks of all tensors of a batch go side by side,
because NumPy calls cost microseconds whatever they do.

References:
    - Duda, [Asymmetric numeral systems](https://arxiv.org/abs/1311.2540),
      2013.
    - Giesen, [Interleaved entropy coders](https://arxiv.org/abs/1402.3392),
      2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_squeeze.codecs.class_rans_contexts import Contexts
from keras_squeeze.codecs.class_rans_layout import Layout
from keras_squeeze.codecs.class_rans_table import PRECISION, TOTAL

STATE_LOW = 1 << 16
NO_ESCAPE = 256

_U32 = np.uint32
# Made once: so small a thing takes a while in an inner loop.
_ONE, _EIGHT, _TWENTY = _U32(1), _U32(8), _U32(20)
_WORD, _SLOT_BITS, _SLOTS = _U32(16), _U32(PRECISION), _U32(TOTAL - 1)
_LOW = _U32(STATE_LOW)
# So many elements are decoded between looks at where blocks end.
_PIECE = 1 << 22
_ENCODED_TOGETHER = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class LaneStream:
    """One tensor, parsed and checked, ready to be decoded.

    Args:
        layout: `Layout`.
        contexts: `Contexts`.
        block_rows: Integer. The rows of every block but the last.
        low: Integer. The value of token 0.
        shift: Integer. The logarithm of how many values a token stands for.
        escape: Integer, the escape token, or `NO_ESCAPE`.
        escape_low: Integer. The value of token 0 of the escape table.
        escape_shift: Integer. Its `shift`.
        tables: uint32 array, the expanded tables, the escape table last.
        states: uint32 array of shape `(blocks, lanes)`; each at least `2**16`.
        machines: uint8 array of shape `(blocks, lanes)`: the states of the
            trellis before each block.
        words: uint16 array, the words of all blocks.
        ends: int64 array. Where in `words` each block ends.
    """

    layout: Layout
    contexts: Contexts
    block_rows: int
    low: int
    shift: int
    escape: int
    escape_low: int
    escape_shift: int
    tables: np.ndarray
    states: np.ndarray
    machines: np.ndarray
    words: np.ndarray
    ends: np.ndarray

    @property
    def is_plain(self) -> bool:
        """Whether a token is all there is to an element."""
        contexts = self.contexts
        simple = contexts.neighbour is None and not contexts.states
        return simple and self.escape == NO_ESCAPE and not self.shift

    def rows_of(self, block: int) -> int:
        """How many rows a block has."""
        begun = block * self.block_rows
        return min(self.layout.rows - begun, self.block_rows)

    @property
    def escape_base(self) -> int:
        """Where in `tables` the escape table starts."""
        return self.contexts.tables << PRECISION


def encode_blocks(
    frequencies: np.ndarray, starts: np.ndarray, block_rows: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Codes the steps of a tensor.

    Args:
        frequencies: uint16 array of shape `(rows, steps, lanes)`; 4096 where
            nothing is coded.
        starts: uint16 array of that shape, where the slots start.
        block_rows: Integer. The rows of every block but the last.

    Returns:
        The final states, uint32 of shape `(blocks, lanes)`, and for each
        block its words, uint16, as the decoder needs them.
    """
    rows, steps, lanes = frequencies.shape
    blocks = -(-rows // block_rows)
    together = max(1, _ENCODED_TOGETHER // (block_rows * lanes * steps))
    states, words = [], []
    for first in range(0, blocks, together):
        chosen = slice(first * block_rows, (first + together) * block_rows)
        some = frequencies[chosen], starts[chosen]
        some_states, some_words = _encode_together(*some, block_rows)
        states.append(some_states)
        words += some_words
    return np.concatenate(states), words


def _encode_together(
    frequencies: np.ndarray, starts: np.ndarray, block_rows: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    all_f = _side_by_side(frequencies, block_rows, TOTAL)
    all_s = _side_by_side(starts, block_rows, 0)
    steps, blocks, lanes = all_f.shape
    f_of, s_of = all_f.reshape(steps, -1), all_s.reshape(steps, -1)
    x = np.full(f_of.shape[1], STATE_LOW, _U32)
    emits = np.empty(f_of.shape, bool)
    emitted = np.empty(f_of.shape, np.uint16)
    for step in range(steps - 1, -1, -1):
        f = f_of[step].astype(_U32)
        emit = (x >> _U32(32 - PRECISION)) >= f
        emits[step] = emit
        emitted[step] = x
        np.right_shift(x, _U32(16), out=x, where=emit)
        quotient = x // f
        x -= quotient * f
        x += quotient << _U32(PRECISION)
        x += s_of[step]
    shape = steps, blocks, lanes
    where, found = emits.reshape(shape), emitted.reshape(shape)
    words = [found[:, b][where[:, b]] for b in range(blocks)]
    return x.reshape(blocks, lanes), words


def _side_by_side(array: np.ndarray, block_rows: int, fill: int) -> np.ndarray:
    """From `(rows, steps, lanes)` to `(block_rows * steps, blocks, lanes)`."""
    rows, steps, lanes = array.shape
    blocks = -(-rows // block_rows)
    longest = min(rows, block_rows)
    padded = np.full((blocks * longest, steps, lanes), fill, array.dtype)
    padded[:rows] = array
    grouped = padded.reshape(blocks, longest * steps, lanes)
    return np.ascontiguousarray(grouped.transpose(1, 0, 2))


@dataclass(slots=True, eq=False)
class _Block:
    """One block of a batch and where its lanes are."""

    stream: int
    number: int
    rows: int
    lanes: slice = field(default_factory=lambda: slice(0, 0))


class Batch:
    """The lanes of all blocks of some streams, the longest block first.

    Args:
        streams: Sequence of `LaneStream`, all of them plain.
        only: Optional integer. The number of the only block of each stream
            that is decoded. Defaults to `None`, all blocks.
    """

    out_dtype: type = np.uint8

    def __init__(
        self, streams: Sequence[LaneStream], only: int | None = None
    ) -> None:
        self.streams = streams
        self.blocks = [
            _Block(i, b, s.rows_of(b))
            for i, s in enumerate(streams)
            for b in range(len(s.states))
            if only in (None, b)
        ]
        self.blocks.sort(key=lambda block: -block.rows)
        lanes = [streams[b.stream].layout.lanes for b in self.blocks]
        self.edges = np.concatenate([[0], np.cumsum(lanes)]).astype(np.intp)
        for block, start, end in zip(
            self.blocks, self.edges, self.edges[1:], strict=False
        ):
            block.lanes = slice(int(start), int(end))
        self.block_of = np.repeat(np.arange(len(lanes)), lanes)
        self.x = np.concatenate(
            [streams[b.stream].states[b.number] for b in self.blocks]
        )
        self.entry = np.empty_like(self.x)
        # The logarithm of the lanes of a block, if all have as many.
        self.even = int(lanes[0]).bit_length() - 1
        if min(lanes) != max(lanes):
            self.even = -1
        self._lay_out_words()
        self._lay_out_tables()

    def _lay_out_words(self) -> None:
        # One word more than there are, for streams that ran out of theirs.
        sizes = [s.words.size for s in self.streams]
        before = np.cumsum([0, *sizes])
        self.words = np.concatenate(
            [*(s.words for s in self.streams), np.zeros(1, np.uint16)],
            dtype=_U32,
            casting="unsafe",
        )
        ends = [
            before[b.stream] + self.streams[b.stream].ends[b.number]
            for b in self.blocks
        ]
        starts = [
            before[b.stream]
            + (self.streams[b.stream].ends[b.number - 1] if b.number else 0)
            for b in self.blocks
        ]
        self.ends = np.array(ends, np.intp)
        self.next = np.array(starts, np.intp)
        self.counting = np.arange(self.x.size)

    def _lay_out_tables(self) -> None:
        sizes = [s.tables.size for s in self.streams]
        self.bases = np.cumsum([0, *sizes]).astype(np.int64)
        # Lanes that take no part step through a table that changes nothing.
        nothing = (_U32(TOTAL - 1) << 8) | (np.arange(TOTAL, dtype=_U32) << 20)
        self.tables = np.concatenate(
            [*(s.tables for s in self.streams), nothing]
        )
        self.width = min(s.layout.lanes for s in self.streams)
        self.tiles, self.places = [], []
        count = 0
        for stream, base in zip(self.streams, self.bases, strict=False):
            found = _tiles(stream, int(base), int(self.bases[-1]), self.width)
            self.tiles.append(found[0])
            self.places.append(found[1] + count)
            count += len(found[0])
        self.all_tiles = np.concatenate(self.tiles)

    def _tile_numbers(self, start: int, stop: int, active: int) -> np.ndarray:
        """For each row the tiles that say where each lane's tables are."""
        width = self.blocks[active - 1].lanes.stop // self.width
        out = np.empty((stop - start, width), np.intp)
        for block in self.blocks[:active]:
            first = block.number * self.streams[block.stream].block_rows
            rows = self.places[block.stream][first + start : first + stop]
            lanes = block.lanes
            out[:, lanes.start // self.width : lanes.stop // self.width] = rows
        return out

    def _tables_at(self, tiles: np.ndarray, out: np.ndarray) -> None:
        """Where each lane's tables start; neighbours and grids: the first."""
        shape = tiles.size, self.width
        self.all_tiles.take(tiles, 0, out.reshape(shape), mode="clip")

    def run(self) -> list[tuple[np.ndarray, bool]]:
        """Decodes everything; see `class_rans_decoding.decode_blocks`."""
        out: list[np.ndarray] = [
            np.zeros((s.layout.rows, s.layout.lanes), self.out_dtype)
            for s in self.streams
        ]
        step, active = 0, len(self.blocks)
        while active:
            rows = max(_PIECE // self.blocks[active - 1].lanes.stop, 1)
            stop = min(step + rows, self.blocks[active - 1].rows)
            values = self._steps(step, stop, active)
            for block in self.blocks[:active]:
                first = block.number * self.streams[block.stream].block_rows
                target = out[block.stream][first + step : first + stop]
                # All lanes of a row at once, as one element of so many bytes.
                whole = f"V{target.shape[1] * target.itemsize}"
                target.view(whole)[:] = values[:, block.lanes].view(whole)
            step = stop
            while active and self.blocks[active - 1].rows == step:
                active -= 1
        return list(zip(out, self._whole(), strict=True))

    def _whole(self) -> list[bool]:
        ended = np.logical_and.reduceat(self.x == STATE_LOW, self.edges[:-1])
        good = [True] * len(self.streams)
        for block, fine in zip(
            self.blocks, ended & (self.next == self.ends), strict=True
        ):
            good[block.stream] &= bool(fine)
        return good

    def _steps(self, start: int, stop: int, active: int) -> np.ndarray:
        tiles = self._tile_numbers(start, stop, active)
        width = self.blocks[active - 1].lanes.stop
        tokens = np.empty((stop - start, width), np.uint8)
        index = np.empty(width, _U32)
        for numbers, token in zip(tiles, tokens, strict=True):
            self._tables_at(numbers, index)
            token[:] = self._step(index, active)
        return tokens

    def _step(self, index: np.ndarray, active: int) -> np.ndarray:
        """One step of all lanes, in tables that start at these indices.

        Args:
            index: uint32 array, written to.
            active: Integer, how many of the blocks go on.

        Returns:
            uint32 array, the entries that the lanes found; the next step
            overwrites it.
        """
        x, entry = self.x[: index.size], self.entry[: index.size]
        np.bitwise_and(x, _SLOTS, out=entry)
        index += entry
        # All indices are in range; "wrap" spares the check for it.
        self.tables.take(index, mode="wrap", out=entry)
        np.right_shift(x, _SLOT_BITS, out=x)
        np.right_shift(entry, _EIGHT, out=index)
        np.bitwise_and(index, _SLOTS, out=index)
        index += _ONE
        x *= index
        np.right_shift(entry, _TWENTY, out=index)
        x += index
        self._feed((x < _LOW).nonzero()[0], active)
        return entry

    def _feed(self, hungry: np.ndarray, active: int) -> None:
        """Gives each of these lanes the next word of its block."""
        # A damaged stream may run into its neighbour's words; that is
        # harmless here and found by `_whole`.
        position = self.next[:active]
        if self.even >= 0:
            counts = np.bincount(hungry >> self.even, minlength=active)
            first = counts.cumsum() - counts
        else:
            edges = hungry.searchsorted(self.edges[: active + 1])
            first, counts = edges[:-1], edges[1:] - edges[:-1]
        offset = (position - first).repeat(counts)
        offset += self.counting[: hungry.size]
        position += counts
        fed = self.x.take(hungry)
        fed <<= _WORD
        fed |= self.words.take(offset, mode="clip")
        self.x[hungry] = fed


def _tiles(
    stream: LaneStream, base: int, idle: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the tables of neighbouring lanes start, and of which row.

    Args:
        stream: `LaneStream`.
        base: Integer, where its first table starts.
        idle: Integer, the table of lanes which take no part.
        width: Integer. How many lanes a tile has.

    Returns:
        The tiles, uint32 of shape `(tiles, width)`; and for each row which of
        them its lanes have, intp of shape `(rows, lanes // width)`.
    """
    layout, scale = stream.layout, stream.contexts.scale
    factor = stream.contexts.tables // scale.classes << PRECISION
    groups = -(-layout.channels // layout.lanes)
    # Positions of one exponent have the same tables, and exponents are few.
    exponents, which = np.unique(
        scale.of_positions(layout), return_inverse=True
    )
    tables = np.full((exponents.size, groups * layout.lanes), idle, _U32)
    classes = scale.classes_of(layout, exponents).astype(_U32)
    tables[:, : layout.channels] = classes * _U32(factor) + _U32(base)
    tiles = tables.reshape(-1, width)
    beside = layout.lanes // width
    first = which * groups + np.arange(groups)[:, None]
    places = first.reshape(-1, 1) * beside + np.arange(beside)
    if layout.view == "flat":
        last = np.where(
            np.arange(layout.lanes) < layout.widths()[-1], base, idle
        )
        places[-1] = len(tiles) + np.arange(beside)
        tiles = np.concatenate([tiles, last.astype(_U32).reshape(-1, width)])
    return tiles, places
