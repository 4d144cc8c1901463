"""The codec `class_rans`, written from docs/class_rans_format.md alone."""

import math

import numpy as np

from tests.independent.class_rans_blocks import Coding, Lanes, decode_block
from tests.independent.class_rans_tables import Bits, exponents, table
from tests.independent.geometry import VIEWS, places


def decode(data, dtype, shape):
    first = data.read(1)[0]
    if first == 128:
        return np.full(shape, data.signed(), dtype)
    view, (scaled, near, trellis, escape) = first & 7, bits_of(first >> 3)
    count, second = math.prod(shape), data.read(1)[0]
    lanes, shift = 1 << (second & 7), second >> 3
    low, tokens = data.signed(), data.read(1)[0] + 1
    index, sizes = elements(view, shape, count, lanes)
    rows = list(rows_of(index, lanes, count))
    size = 1 << data.read(1)[0] if len(rows) > 2048 else 2048
    memory = data.read(1)[0] if trellis else 0
    if escape:
        escape = data.signed(), data.varint()
    near = (data.varint() + 1, data.varint() + 1) if near else None
    bits, lists = Bits(data), [[0] * n for n in sizes]
    classes, merge = 1, 0
    if scaled:
        classes, merge = bits.number(4) + 1, bits.number(2)
        there = [bits.number(1) for _ in lists]
        for i in range(3):
            lists[i] = exponents(bits, sizes[i]) if there[i] else lists[i]
    number = classes * (5 if near else 1) * (1 + trellis)
    form = tokens, bool(escape), low, shift
    tables = [table(bits, *form) for _ in range(number)]
    if escape:
        # The varint is one less than how many values there are.
        low_, over = escape[0], max(0, escape[1].bit_length() - 8)
        escape = table(bits, (escape[1] >> over) + 1, 0, low_, over), low_, over
    bits.end(data)
    coding = (low, shift, tables, escape, memory, near, classes, merge, lists)
    blocks = [rows[i : i + size] for i in range(0, len(rows), size)]
    words = [2 * data.varint() for _ in blocks[1:]] + [None]
    word = np.dtype("<u4")
    states = [data.raw(word, len(rows[0])).tolist() for rows in blocks]
    machines = [[0] * lanes]
    for block in blocks[1:]:
        machines.append(data.run([memory] * len(block[0])))
    out = np.zeros(index.size, int)
    for block, end, x, machine in zip(
        blocks, words, states, machines, strict=True
    ):
        stored = np.frombuffer(data.read(end), "<u2").tolist()
        lane = Lanes(x, stored)
        found = decode_block(Coding(*coding), block, lane, machine)
        for place, value in found.items():
            out[index[place]] = value
    return out[:count].astype(dtype).reshape(shape)


def bits_of(flags):
    return [flags >> i & 1 for i in range(4)]


def elements(view, shape, count, lanes):
    """Where elements are by channel and place; channels, inputs, taps."""
    if view:
        index = places(VIEWS[view - 1], shape)[0]
        channels, taps, inputs = index.shape
        return index.reshape(channels, -1), (channels, inputs, taps)
    rows = -(-count // lanes)
    index = np.arange(rows * lanes).reshape(rows, lanes).T
    return index, (lanes, rows, 1)


def rows_of(index, lanes, count):
    """For each row the channel and place of each of its lanes."""
    channels, size = index.shape
    for top in range(0, channels, lanes):
        for place in range(size):
            row = range(top, min(top + lanes, channels))
            yield [(c, place) for c in row if index[c, place] < count]
