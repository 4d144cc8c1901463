"""The inner loops of the rANS coder: many lanes, one NumPy call a step.

Symbol `i` of a stream belongs to lane `i % lanes` and step `i // lanes`. A
lane is a 32-bit state `x` in `2**16 .. 2**32 - 1`. One decoding step, for a
symbol of frequency `f` whose slots start at `s`, in a table of precision `p`:

    slot = x mod 2**p            (the symbol is the one that owns the slot)
    x = f * (x div 2**p) + slot - s
    if x < 2**16: x = x * 2**16 + next 16-bit word of the stream

Within a step the lanes take their words in the order of the lanes. Encoding
is the same backwards. NumPy calls cost microseconds whatever they do, so the
decoder puts the lanes of all streams of a batch side by side.

References:
    - Giesen, [Interleaved entropy coders](https://arxiv.org/abs/1402.3392),
      2014.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import rans_lanes_native
from keras_squeeze.codecs.blocks import BLOCK

STATE_LOW = 1 << 16

_U32 = np.uint32
_NO_WORD = np.zeros(1, np.uint32)
# Slots are gathered in 32 bits for speed and kept in 16: piece by piece.
_PIECE = 128
# Steps encoded together, however many lanes there are.
_ROWS = 8
_GIVEN = np.zeros((0, 0), np.uint16), False


@dataclass(frozen=True, slots=True, eq=False)
class LaneStream:
    """One stream, parsed and checked, ready to be decoded.

    Args:
        precision: Integer. The logarithm of the table's size.
        table: uint32 array of `2**precision`; for each slot the frequency of
            its symbol times `2**16` plus the slot's place among the symbol's.
        steps: Integer. How many symbols each lane holds.
        states: uint32 array, one entry a lane, each at least `2**16`.
        words: uint16 array.
    """

    precision: int
    table: np.ndarray
    steps: int
    states: np.ndarray
    words: np.ndarray


def slot_table(frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expands frequencies to one entry a slot.

    Args:
        frequencies: int64 array that adds up to a power of two.

    Returns:
        The symbols of the slots (uint16) and the `LaneStream.table`.
    """
    symbols = np.repeat(np.arange(frequencies.size), frequencies)
    starts = np.cumsum(frequencies) - frequencies
    place = np.arange(symbols.size) - starts[symbols]
    table = (frequencies[symbols] << 16) + place
    return symbols.astype(np.uint16), table.astype(_U32)


def encode_lanes(
    symbols: np.ndarray, frequencies: np.ndarray, precision: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes a matrix of symbols.

    Args:
        symbols: Integer array of shape `(steps, lanes)`.
        frequencies: int64 array; positive for every symbol that occurs.
        precision: Integer, the logarithm of their sum.

    Returns:
        The final states (uint32, one a lane) and the words (uint16), both in
        the order in which the decoder needs them.
    """
    steps, lanes = symbols.shape
    starts = (np.cumsum(frequencies) - frequencies).astype(_U32)
    x = np.full(lanes, STATE_LOW, _U32)
    rows, words = max(_ROWS, BLOCK // lanes), [np.zeros(0, np.uint16)]
    for stop in range(steps, 0, -rows):
        piece = symbols[max(stop - rows, 0) : stop]
        f_of = frequencies.astype(_U32)[piece]
        words.append(_push(x, f_of, starts[piece], precision))
    return x, np.concatenate(words[::-1])


def _push(
    x: np.ndarray, f_of: np.ndarray, s_of: np.ndarray, precision: int
) -> np.ndarray:
    """Takes steps backwards from states, which change; gives the words."""
    steps, lanes = f_of.shape
    emits = np.empty(f_of.shape, bool)
    words = np.empty(f_of.shape, np.uint16)
    # Arrays, because NumPy converts a scalar operand anew at every call.
    p, head, sixteen = np.full((3, lanes), _column(precision), _U32)
    quotient, scratch = np.empty((2, lanes), _U32)
    for step in range(steps - 1, -1, -1):
        f, emit = f_of[step], emits[step]
        np.right_shift(x, head, out=scratch)
        np.greater_equal(scratch, f, out=emit)
        words[step] = x
        np.right_shift(x, sixteen, out=x, where=emit)
        np.floor_divide(x, f, out=quotient)
        np.multiply(quotient, f, out=scratch)
        np.subtract(x, scratch, out=x)
        np.left_shift(quotient, p, out=quotient)
        np.add(x, quotient, out=x)
        np.add(x, s_of[step], out=x)
    found: np.ndarray = words[emits]
    return found


def _column(precision: int) -> list[list[int]]:
    return [[precision], [32 - precision], [16]]


def decode_lanes(
    streams: Sequence[LaneStream],
) -> list[tuple[np.ndarray, bool]]:
    """Decodes all streams side by side.

    Args:
        streams: Sequence of `LaneStream`.

    Returns:
        For each stream the slots, a uint16 array of shape `(steps, lanes)`,
        and whether all its words were used and every lane ended where the
        encoder began. Damaged streams give some slots and `False`.
    """
    found = rans_lanes_native.decode_lanes(streams)
    return decode_reference(streams) if found is None else found


def iterate_lanes(
    streams: Sequence[LaneStream],
) -> Iterator[tuple[np.ndarray, bool]]:
    """What `decode_lanes` does, one stream after the other if it can.

    Args:
        streams: Sequence of `LaneStream`.

    Yields:
        The slots of each stream, which nobody else holds, and whether the
        stream is whole.
    """
    if not rans_lanes_native.available():
        found = decode_reference(streams) if streams else []
        for place in range(len(found)):
            result, found[place] = found[place], _GIVEN
            yield result
        return
    for stream in streams:
        yield decode_lanes([stream])[0]


def decode_reference(
    streams: Sequence[LaneStream],
) -> list[tuple[np.ndarray, bool]]:
    """What `decode_lanes` does, in NumPy."""
    order = sorted(range(len(streams)), key=lambda i: -streams[i].steps)
    slots = [np.empty((s.steps, s.states.size), np.uint16) for s in streams]
    batch = _Batch([streams[i] for i in order])
    step = 0
    for active in range(len(order), 0, -1):
        last = streams[order[active - 1]].steps
        if last > step:
            for block in batch.run(last - step, active):
                for place in range(active):
                    lanes = slice(*batch.edges[place : place + 2])
                    rows = slice(step, step + len(block))
                    slots[order[place]][rows] = block[:, lanes]
                step += len(block)
    whole = batch.whole()
    good = dict(zip(order, whole, strict=True))
    return [(slots[i], good[i]) for i in range(len(streams))]


class _Batch:
    """The states of the lanes of several streams, the longest stream first."""

    def __init__(self, streams: Sequence[LaneStream]) -> None:
        lanes = [s.states.size for s in streams]
        self.edges = np.concatenate([[0], np.cumsum(lanes)]).astype(np.intp)
        self.x = np.concatenate([s.states for s in streams])
        # One word more than there are, for streams that ran out of theirs.
        words = [*(s.words for s in streams), _NO_WORD]
        self.words = np.concatenate(words, dtype=_U32, casting="unsafe")
        self.counting = np.arange(self.x.size)
        ends = np.cumsum([s.words.size for s in streams])
        self.ends = ends.astype(np.intp)
        self.next = self.ends - [s.words.size for s in streams]
        self.stream_of = np.repeat(np.arange(len(streams)), lanes)
        sizes = [s.table.size for s in streams]
        base = np.cumsum(sizes) - sizes
        self.table = np.concatenate([s.table for s in streams])
        self.base = np.repeat(base, lanes).astype(_U32)
        precision = np.array([s.precision for s in streams], _U32)
        self.shift = np.repeat(precision, lanes)
        self.mask = (_U32(1) << self.shift) - _U32(1)

    def whole(self) -> list[bool]:
        """For each stream, whether it ended exactly as it should."""
        ended = np.logical_and.reduceat(self.x == STATE_LOW, self.edges[:-1])
        return [bool(b) for b in ended & (self.next == self.ends)]

    def run(self, steps: int, streams: int) -> Iterator[np.ndarray]:
        """Takes steps with the lanes of the first `streams` streams.

        Args:
            steps: Integer. How many.
            streams: Integer. How many streams still have symbols.

        Yields:
            The slots of some of the steps, uint16, one row a step.
        """
        edges = self.edges[: streams + 1]
        for start in range(0, steps, _PIECE):
            slots = np.empty((min(_PIECE, steps - start), edges[-1]), _U32)
            self._fill(slots, edges)
            yield slots.astype(np.uint16)

    def _fill(self, slots: np.ndarray, edges: np.ndarray) -> None:
        # NumPy turns a scalar operand into an array at every call, at twice
        # the price of the work itself: all operands are arrays.
        n = int(edges[-1])
        x, base, shift, mask = (
            a[:n] for a in (self.x, self.base, self.shift, self.mask)
        )
        sixteen, low_half = np.full((2, n), [[16], [0xFFFF]], _U32)
        limit = low_half + _U32(1)
        index, entry = np.empty(n, _U32), np.empty(n, _U32)
        low = np.empty(n, bool)
        for slot in slots:
            np.bitwise_and(x, mask, out=slot)
            np.add(slot, base, out=index)
            # All indices are in range; "clip" spares the check for it.
            self.table.take(index, out=entry, mode="clip")
            np.right_shift(x, shift, out=x)
            np.right_shift(entry, sixteen, out=index)
            np.multiply(x, index, out=x)
            np.bitwise_and(entry, low_half, out=entry)
            np.add(x, entry, out=x)
            np.less(x, limit, out=low)
            hungry = low.nonzero()[0]
            if hungry.size:
                fed = x.take(hungry) << sixteen[: hungry.size]
                x[hungry] = fed | self._next_words(hungry, edges)

    def _next_words(self, hungry: np.ndarray, edges: np.ndarray) -> np.ndarray:
        # A damaged stream may run beyond its words, or into its neighbour's;
        # that is harmless here and found by `whole`.
        position = self.next[: edges.size - 1]
        if position.size == 1:
            start = int(position[0])
            position += hungry.size
            words = self.words[start : start + hungry.size]
            return words if words.size == hungry.size else _NO_WORD
        first = hungry.searchsorted(edges)
        ahead: np.ndarray = position - first[:-1]
        offset = ahead.take(self.stream_of.take(hungry))
        offset += self.counting[: hungry.size]
        position += first[1:]
        position -= first[:-1]
        return self.words.take(offset, mode="clip")
