"""Writing several `rans` streams at once.

A NumPy call costs microseconds however little it does, so many short streams
are coded side by side, the longest first: in every step the lanes that have
something to do are the leading ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_squeeze.codecs import rans_table
from keras_squeeze.codecs.byte_cursor import signed_varint, varint
from keras_squeeze.codecs.rans import lane_count
from keras_squeeze.codecs.rans_lanes import STATE_LOW

# Few lanes waste little. Long streams take more of them, which decode faster.
_MOST_STEPS = 4096
_FEW_STEPS = 1024
_SHORT = 1 << 16
_U32 = np.uint32
_BLOCK = 1 << 18


class _Stream(NamedTuple):
    header: bytes
    precision: int
    frequencies: np.ndarray
    starts: np.ndarray
    symbols: np.ndarray


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
    order = sorted(range(len(streams)), key=lambda i: -len(streams[i].symbols))
    coded: dict[int, bytes] = {}
    for batch in _batches(order, [len(s.symbols) for s in streams]):
        found = _encode([streams[i] for i in batch])
        coded.update(zip(batch, found, strict=True))
    whole = (s.header + coded[i] for i, s in enumerate(streams))
    return [p if isinstance(p, bytes) else next(whole) for p in prepared]


def _prepare(array: np.ndarray) -> _Stream | bytes:
    low = int(array.min())
    symbols = array - array.dtype.type(low)
    counts = _count(symbols)
    start = signed_varint(low) + varint(counts.size - 1)
    if counts.size == 1:
        return b"\0" + start
    table = rans_table.fit(counts)
    lanes = _lanes(symbols.size, rans_table.payload_bits(counts, table))
    steps = -(-symbols.size // lanes)
    filled = np.full(steps * lanes, table.mode, symbols.dtype)
    filled[: symbols.size] = symbols
    by_step = filled.reshape(steps, lanes)
    begins = np.cumsum(table.frequencies) - table.frequencies
    header = bytes([table.precision - 1]) + start + varint(table.mode)
    return _Stream(
        header + varint(lanes - 1) + rans_table.write(table),
        table.precision,
        table.frequencies.astype(_U32),
        begins.astype(_U32),
        by_step,
    )


def _count(symbols: np.ndarray) -> np.ndarray:
    # In blocks, as every one is made eight bytes a symbol.
    counts = np.zeros(int(symbols.max()) + 1, np.int64)
    for start in range(0, symbols.size, _BLOCK):
        block = symbols[start : start + _BLOCK]
        counts += np.bincount(block, minlength=counts.size)
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
    edges = np.cumsum([0, *(s.symbols.shape[1] for s in streams)])
    lengths = np.array([len(s.symbols) for s in streams])
    precision = np.repeat([s.precision for s in streams], np.diff(edges))
    p = precision.astype(_U32)
    head, sixteen = _U32(32) - p, np.full(p.size, 16, _U32)
    x = np.full(p.size, STATE_LOW, _U32)
    words = np.zeros((lengths[0], p.size), np.uint16)
    emits = np.zeros(words.shape, bool)
    symbols, places = _side_by_side(streams, edges)
    frequencies = np.concatenate([s.frequencies for s in streams])
    starts = np.concatenate([s.starts for s in streams])
    for step in range(int(lengths[0]) - 1, -1, -1):
        n = edges[np.searchsorted(-lengths, -step)]
        which = symbols[step, :n] + places[:n]
        now, f = x[:n], frequencies[which]
        emit = emits[step, :n]
        np.greater_equal(now >> head[:n], f, out=emit)
        words[step, :n] = now
        np.right_shift(now, sixteen[:n], out=now, where=emit)
        quotient = now // f
        now += (quotient << p[:n]) - quotient * f + starts[which]
    return [
        x[a:b].astype("<u4").tobytes()
        + words[:, a:b][emits[:, a:b]].astype("<u2").tobytes()
        for a, b in itertools.pairwise(edges)
    ]


def _side_by_side(
    streams: Sequence[_Stream], edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols, a row a step, and where the table of each lane begins."""
    shape = (len(streams[0].symbols), int(edges[-1]))
    symbols, places = np.zeros(shape, np.uint16), np.zeros(shape[1], np.int64)
    begin = 0
    for stream, a, b in zip(streams, edges[:-1], edges[1:], strict=True):
        symbols[: len(stream.symbols), a:b] = stream.symbols
        places[a:b] = begin
        begin += stream.frequencies.size
    return symbols, places
