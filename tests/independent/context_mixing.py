"""`context_mixing`, written from docs/context_mixing_format.md alone."""

import numpy as np

from tests.independent.context_mixing_model import Model
from tests.independent.context_mixing_priors import first
from tests.independent.context_mixing_scan import Scan
from tests.independent.geometry import VIEWS, places


def decode(data, dtype, shape):
    flags = data.read(1)[0]
    if flags == 7:
        return np.full(shape, data.signed(), dtype)
    index, width = places(VIEWS[flags & 7], shape)
    channels = len(index)
    centre, chains, memory = 0, 0, 0
    if flags >> 5 & 1:
        centre = data.signed()
    if flags >> 6 & 1:
        memory, chains = data.read(1)[0], min(data.varint() + 1, channels)
    buckets, top = data.read(1)[0], 0
    if buckets > 127:
        buckets -= 128
        top = first(buckets - 2) + 1 + data.varint()
    mean_class, hole, shift = data.read(1)[0], 1, 0
    if flags >> 7:
        hole, shift = data.varint() + 1, data.read(1)[0]
    model = Model(buckets, top, mean_class, hole, shift, flags >> 3 & 3, memory)
    size = index[0].size
    most = max(1, 2**20 // size)
    share = -(-channels // -(-channels // most))
    blocks = [index[i : i + share] for i in range(0, channels, share)]
    sizes = [data.varint() for _ in blocks[1:]]
    starts = [bytes(chains)] + [data.read(chains) for _ in blocks[1:]]
    out = np.zeros(index.size, object)
    for i, block in enumerate(blocks):
        stored = data.read(sizes[i] if i < len(sizes) else None)
        scan = Scan(
            model, stored, block.shape, width, list(starts[i]), i * share
        )
        for channel, where in zip(scan.run(), block, strict=True):
            out[where.ravel()] = channel
    return (out + centre).astype(dtype).reshape(shape)
