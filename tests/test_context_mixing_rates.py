"""Estimated rates against what the codec spends."""

import numpy as np
import pytest

from keras_squeeze.codecs.context_mixing import ContextMixing
from keras_squeeze.codecs.context_mixing_rates import rate_tables
from keras_squeeze.codecs.kernel_geometry import (
    default_kind,
    geometry_of,
    to_canonical,
)
from keras_squeeze.codecs.trellis import Trellis, next_states

needs_kernel = pytest.mark.skipif(
    not ContextMixing().is_fast, reason="no compiled kernel"
)


@needs_kernel
@pytest.mark.parametrize("shape", [(300, 200), (3, 3, 40, 60)])
@pytest.mark.parametrize("scale", [0.4, 3.0, 30.0])
def test_rates_add_up_to_the_size(shape, scale):
    random = np.random.default_rng(0)
    scales = np.exp(0.7 * random.normal(size=shape[-1]))
    codes = np.rint(random.laplace(size=shape) * scale * scales)
    codes = codes.astype(np.int32)
    classes, bits = rate_tables(codes)
    layout = geometry_of(shape, default_kind(shape))
    levels = np.abs(to_canonical(codes, layout))
    total = bits[classes, 0, np.minimum(levels, bits.shape[2] - 1)].sum()
    size = 8 * len(ContextMixing().encode(codes))
    assert total == pytest.approx(size, rel=0.06)


def test_rates_follow_the_grids_of_a_trellis():
    trellis = Trellis(8, "matrix", 3)
    random = np.random.default_rng(0)
    levels = np.rint(random.laplace(size=(40, 12))).astype(int)
    machine, codes = next_states(8), np.zeros((40, 12), np.int32)
    grids = np.zeros((12, 1, 40), int)
    for chain in range(3):
        state = 0
        for channel in range(chain, 12, 3):
            for place, level in enumerate(levels[:, channel]):
                grids[channel, 0, place] = state & 1
                code = 2 * level - np.sign(level) * (state & 1)
                codes[place, channel] = code
                state = machine[state, abs(level) & 1]
    classes, bits = rate_tables(codes, trellis)
    picked = np.abs(levels.T[:, None, :])
    total = bits[classes, grids, picked].sum()
    size = 8 * len(ContextMixing(trellis).encode(codes))
    assert total == pytest.approx(size, rel=0.15)
    # The odd grid has zero and one close together: zero is rarer there.
    common = np.bincount(classes.reshape(-1)).argmax()
    assert bits[common, 1, 0] > bits[common, 0, 0]
