"""Writing several `rans` streams at once.

A NumPy call costs microseconds however little it does, so many short streams
are coded side by side, the longest first: in every step the lanes that have
something to do are the leading ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import rans_table
from keras_squeeze.codecs.blocks import BLOCK, blocks
from keras_squeeze.codecs.byte_cursor import signed_varint, varint
from keras_squeeze.codecs.rans import lane_count
from keras_squeeze.codecs.rans_lanes import STATE_LOW

# Few lanes waste little. Long streams take more of them, which decode faster.
_MOST_STEPS = 4096
_FEW_STEPS = 1024
_SHORT = 1 << 16
_U32 = np.uint32
# Steps taken together, however many lanes there are.
_ROWS = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Stream:
    """A table that was fitted, and what is coded with it."""

    header: bytes
    precision: int
    frequencies: np.ndarray
    starts: np.ndarray
    values: np.ndarray
    low: int
    mode: int
    lanes: int

    @property
    def steps(self) -> int:
        """How many symbols each lane has, the filling included."""
        return -(-self.values.size // self.lanes)

    def fill(self, out: np.ndarray, first: int) -> None:
        """Writes the symbols of steps from the first one on, those it has."""
        start = first * self.lanes
        some = self.values[start : start + len(out) * self.lanes]
        whole, spare = divmod(some.size, self.lanes)
        rows = some[: whole * self.lanes].reshape(whole, self.lanes)
        np.subtract(rows, some.dtype.type(self.low), out=out[:whole])
        if spare:
            out[whole, :spare] = some[-spare:] - some.dtype.type(self.low)
            out[whole, spare:] = self.mode


def encode_streams(arrays: Sequence[np.ndarray]) -> list[bytes]:
    """Codes arrays of symbols, each as `Rans` would, with fewer lanes.

    Args:
        arrays: Sequence of one-dimensional uint16 arrays that span at most
            4096 values, none without elements.

    Returns:
        For each array bytes that `Rans` decodes.

    Example:
    >>> import numpy as np
    >>> from keras_squeeze.codecs import Rans
    >>> symbols = np.arange(1000, dtype="uint16") % 7
    >>> (data,) = encode_streams([symbols])
    >>> bool((Rans().decode(data, (1000,), "uint16") == symbols).all())
    True
    """
    prepared = [_prepare(array) for array in arrays]
    streams = [p for p in prepared if isinstance(p, _Stream)]
    order = sorted(range(len(streams)), key=lambda i: -streams[i].steps)
    coded: dict[int, bytes] = {}
    for batch in _batches(order, [s.steps for s in streams]):
        found = _encode([streams[i] for i in batch])
        coded.update(zip(batch, found, strict=True))
    whole = (s.header + coded[i] for i, s in enumerate(streams))
    return [p if isinstance(p, bytes) else next(whole) for p in prepared]


def _prepare(array: np.ndarray) -> _Stream | bytes:
    low = int(array.min())
    counts = _count(array, low)
    start = signed_varint(low) + varint(counts.size - 1)
    if counts.size == 1:
        return b"\0" + start
    table = rans_table.fit(counts)
    lanes = _lanes(array.size, rans_table.payload_bits(counts, table))
    begins = np.cumsum(table.frequencies) - table.frequencies
    header = bytes([table.precision - 1]) + start + varint(table.mode)
    return _Stream(
        header + varint(lanes - 1) + rans_table.write(table),
        table.precision,
        table.frequencies.astype(_U32),
        begins.astype(_U32),
        array,
        low,
        table.mode,
        lanes,
    )


def _count(array: np.ndarray, low: int) -> np.ndarray:
    counts = np.zeros(int(array.max()) - low + 1, np.int64)
    for block in blocks(array.size):
        symbols = array[block] - array.dtype.type(low)
        counts += np.bincount(symbols, minlength=counts.size)
    return counts


def _lanes(count: int, payload_bits: float) -> int:
    if count > _SHORT:
        return lane_count(count, payload_bits / count)
    return -(-count // _MOST_STEPS)


def _batches(order: Sequence[int], steps: Sequence[int]) -> list[list[int]]:
    """What to code side by side, where all take the longest one's space."""
    batches: list[list[int]] = []
    longest = 0
    for place in order:
        if longest > max(2 * steps[place], _FEW_STEPS) or not batches:
            longest = steps[place]
            batches.append([])
        batches[-1].append(place)
    return batches


def _encode(streams: Sequence[_Stream]) -> list[bytes]:
    """The states and words of streams that are sorted by length."""
    if not streams:
        return []
    edges = np.cumsum([0, *(s.lanes for s in streams)])
    lengths = np.array([s.steps for s in streams])
    lanes, longest = int(edges[-1]), int(lengths[0])
    x = np.full(lanes, STATE_LOW, _U32)
    machine = _Machine(streams, edges, lengths)
    rows = max(_ROWS, BLOCK // lanes)
    pieces: list[list[np.ndarray]] = [[] for _ in streams]
    for stop in range(longest, 0, -rows):
        first = max(stop - rows, 0)
        words, emits = machine.push(x, first, stop)
        for place, (a, b) in enumerate(itertools.pairwise(edges)):
            if lengths[place] > first:
                pieces[place].append(words[:, a:b][emits[:, a:b]])
    return [
        b"".join(
            [
                x[a:b].astype("<u4").tobytes(),
                *(w.astype("<u2", copy=False).tobytes() for w in some[::-1]),
            ]
        )
        for (a, b), some in zip(itertools.pairwise(edges), pieces, strict=True)
    ]


class _Machine:
    """Streams side by side, the longest first."""

    def __init__(
        self, streams: Sequence[_Stream], edges: np.ndarray, lengths: np.ndarray
    ) -> None:
        self.streams, self.edges, self.lengths = streams, edges, lengths
        lanes = np.diff(edges)
        self.p = np.repeat([s.precision for s in streams], lanes).astype(_U32)
        self.frequencies = np.concatenate([s.frequencies for s in streams])
        self.starts = np.concatenate([s.starts for s in streams])
        sizes = np.array([s.frequencies.size for s in streams])
        # Where the table of each lane begins.
        self.places = np.repeat(np.cumsum(sizes) - sizes, lanes)

    def push(
        self, x: np.ndarray, first: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes the steps from the last to the first; the states change.

        Args:
            x: uint32 array, the states of the lanes.
            first: Integer. The first of the steps.
            stop: Integer. The one after the last.

        Returns:
            uint16 array, a row a step, and where the lanes emit of it.
        """
        symbols = self._symbols(first, stop)
        head, sixteen = _U32(32) - self.p, np.full(x.size, 16, _U32)
        words = np.zeros(symbols.shape, np.uint16)
        emits = np.zeros(symbols.shape, bool)
        for step in range(stop - 1, first - 1, -1):
            n = self.edges[np.searchsorted(-self.lengths, -step)]
            which = symbols[step - first, :n] + self.places[:n]
            now, f = x[:n], self.frequencies[which]
            emit = emits[step - first, :n]
            np.greater_equal(now >> head[:n], f, out=emit)
            words[step - first, :n] = now
            np.right_shift(now, sixteen[:n], out=now, where=emit)
            quotient = now // f
            now += (quotient << self.p[:n]) - quotient * f + self.starts[which]
        return words, emits

    def _symbols(self, first: int, stop: int) -> np.ndarray:
        out = np.zeros((stop - first, int(self.edges[-1])), np.uint16)
        edges = itertools.pairwise(self.edges)
        for stream, (a, b) in zip(self.streams, edges, strict=True):
            if stream.steps > first:
                stream.fill(out[:, a:b], first)
        return out
