"""Tensors and streams for the tests of `class_rans`."""

import numpy as np

from keras_squeeze.codecs import kernel_geometry
from keras_squeeze.codecs.class_rans import ClassRans
from keras_squeeze.codecs.trellis import Trellis, next_states


def kernel(shape, scale, seed=0):
    """Weights whose output channels and inputs have scales of their own."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, scale, shape)
    weights *= np.exp(rng.normal(0, 0.4, shape[-1:]))
    return weights * np.exp(rng.normal(0, 0.4, (shape[-2], 1)))


def int8(weights, most=127):
    return weights.round().clip(-most, most).astype("int8")


def trellis_codes(levels, trellis):
    """The codes that the machine makes of levels, step by step."""
    geometry = kernel_geometry.geometry_of(levels.shape, trellis.geometry)
    canonical = kernel_geometry.to_canonical(levels, geometry)
    rows = canonical.reshape(geometry.channels, -1)
    out, step = np.zeros_like(rows), next_states(trellis.states)
    for chain in range(min(trellis.chains, geometry.channels)):
        state = 0
        for channel in range(chain, geometry.channels, trellis.chains):
            for i, level in enumerate(rows[channel].tolist()):
                sign = (level > 0) - (level < 0)
                out[channel, i] = 2 * level - sign * (state & 1)
                state = int(step[state, level & 1])
    shape = geometry.channels, geometry.taps, geometry.inputs
    return kernel_geometry.from_canonical(
        out.reshape(shape), geometry, levels.shape
    )


def damaged_streams():
    """Streams of every kind, to be damaged, and what they hold."""
    rng = np.random.default_rng(0)
    arrays = [
        int8(kernel((3, 3, 8, 40), 20)),
        int8(rng.laplace(0, 2, 3000), 7),
        rng.normal(0, 500, (40, 40)).round().astype("int32"),
        int8(np.cumsum(rng.normal(0, 3, (300, 40)), 0), 100),
        rng.integers(0, 2, 500).astype(bool),
    ]
    streams = [(ClassRans().encode(a), a) for a in arrays]
    trellis = Trellis(8, "matrix", 8)
    levels = rng.laplace(0, 2, (100, 40)).round().astype("int8")
    codes = trellis_codes(levels, trellis)
    return [*streams, (ClassRans(trellis=trellis).encode(codes), codes)]
