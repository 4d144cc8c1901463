import numpy as np
import pytest

from keras_squeeze.codecs import context_mixing_costs
from keras_squeeze.codecs.context_mixing import ContextMixing
from keras_squeeze.codecs.kernel_geometry import geometry_of, to_canonical
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.quantizers import TrellisQuantizer, trellis_refinement
from keras_squeeze.quantizers.trellis_chains import ChainOrder, follow_machine
from keras_squeeze.quantizers.trellis_refinement import (
    Refinement,
    is_worthwhile,
)

needs_kernel = pytest.mark.skipif(
    not context_mixing_costs.available(), reason="no compiled kernel"
)


@pytest.fixture(scope="module")
def smooth():
    """A kernel whose signs and sizes follow from those before."""
    generator = np.random.default_rng(0)
    waves = np.sin(np.arange(96)[:, None] / np.arange(3.0, 11.0))
    kernel = waves @ generator.normal(size=(8, 64))
    kernel += 0.7 * generator.normal(size=kernel.shape)
    return kernel.astype(np.float32)


def rate_and_noise(weights, quantizer):
    tensor = quantizer.encode(weights)
    data = ContextMixing(tensor.trellis).encode(tensor.codes)
    noise = np.square(tensor.dequantize() - weights).mean()
    return 8 * len(data) / weights.size, 10 * np.log10(noise)


@needs_kernel
def test_refined_codes_take_fewer_bits_at_equal_noise(smooth, monkeypatch):
    quantizer = TrellisQuantizer(64, step=1.0, target="small")
    bits, noise = rate_and_noise(smooth, quantizer)
    monkeypatch.setattr(trellis_refinement, "is_worthwhile", lambda _: False)
    bits_before, noise_before = rate_and_noise(smooth, quantizer)
    # A bit is worth six decibels.
    gain = bits_before - bits + (noise_before - noise) / 6.02
    assert gain > 0.01 * bits_before


@needs_kernel
@pytest.mark.parametrize("bits", [3, 4])
def test_refined_codes_stay_in_range_and_obey_the_machine(smooth, bits):
    quantizer = TrellisQuantizer(64, bits, target="small")
    tensor = quantizer.encode(smooth)
    codes = tensor.codes.astype(int)
    assert 2 ** (bits - 1) - 2 <= abs(codes).max() <= 2 ** (bits - 1) - 1
    geometry = geometry_of(codes.shape, tensor.trellis.geometry)
    canonical = to_canonical(codes, geometry)
    grids = follow_machine(canonical.astype(np.int32), tensor.trellis)
    assert ((canonical == 0) | (abs(canonical) % 2 == grids)).all()


def test_large_levels_are_forbidden_on_both_grids():
    shape = 1, 1, 4
    refinement = Refinement(
        np.array([[[6.7, -7.0, 2.0, 0.0]]], np.float32),
        *(None, ChainOrder(shape, 1), geometry_of((4, 1), "matrix")),
        *(Trellis(64, "matrix", 1), 1.0, 7),
    )
    costs = np.full((*shape, 2, 4), 256, np.uint16)
    legal = refinement._legal(costs)
    forbidden = np.argwhere(legal == 65535)[:, 2:].tolist()
    # Level 4 is the code 8 on the even grid and 7 on the odd one.
    assert forbidden == [[0, 0, 3], [1, 0, 3], [1, 1, 3]]
    assert (costs == 256).all()


def test_small_arrays_are_refined_by_the_reference(monkeypatch):
    monkeypatch.setattr(context_mixing_costs, "available", lambda: False)
    monkeypatch.setattr(trellis_refinement, "available", lambda: False)
    weights = np.random.default_rng(1).normal(size=(16, 8))
    tensor = TrellisQuantizer(64, step=0.8, target="small").encode(weights)
    codes = to_canonical(tensor.codes, geometry_of((16, 8), "matrix"))
    assert is_worthwhile(codes)
    assert not is_worthwhile(np.resize(codes, 600))
    grids = follow_machine(codes.astype(np.int32), tensor.trellis)
    assert ((codes == 0) | (abs(codes) % 2 == grids)).all()


def test_codes_all_alike_are_left_alone():
    tensor = TrellisQuantizer(64, step=1.0, target="small").encode(
        np.zeros((20, 20), np.float32)
    )
    assert not tensor.codes.any()
    assert not is_worthwhile(np.zeros(0, np.int32))
