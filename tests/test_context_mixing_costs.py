import numpy as np
import pytest

from keras_squeeze.codecs import context_mixing_costs
from keras_squeeze.codecs import context_mixing_native as kernel
from keras_squeeze.codecs.context_mixing import ContextMixing
from keras_squeeze.codecs.context_mixing_costs import (
    ABOVE,
    BELOW,
    LARGEST_COST,
    NEAREST,
    ZERO,
    level_costs,
)
from keras_squeeze.codecs.kernel_geometry import geometry_of, to_canonical
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import TrellisQuantizer
from keras_squeeze.quantizers.trellis_chains import follow_machine

needs_kernel = pytest.mark.skipif(
    not context_mixing_costs.available(), reason="no compiled kernel"
)


def quantized(shape, kind, step, seed=0):
    """Codes and weights in steps, in canonical order; the geometry."""
    weights = np.random.default_rng(seed).laplace(size=shape)
    quantizer = TrellisQuantizer(8, step=step)
    tensor = quantizer.encode(weights.astype(np.float32), kind=kind)
    geometry = geometry_of(shape, tensor.trellis.geometry)
    codes = np.ascontiguousarray(to_canonical(tensor.codes, geometry))
    in_steps = (weights / tensor.scale.item()).astype(np.float32)
    in_steps = np.ascontiguousarray(to_canonical(in_steps, geometry))
    return codes.astype(np.int32), in_steps, geometry, tensor


@needs_kernel
@pytest.mark.parametrize("step", [0.03, 0.4, 1.5])
@pytest.mark.parametrize(
    ("shape", "kind"),
    [((3, 3, 5, 6), "convolution"), ((30, 9), "matrix_transposed")],
)
def test_the_kernel_gives_the_costs_of_the_reference(
    monkeypatch, shape, kind, step
):
    codes, in_steps, geometry, tensor = quantized(shape, kind, step)
    arguments = codes, in_steps, geometry, tensor.trellis
    compiled = level_costs(*arguments)
    weigh = kernel.weigh
    monkeypatch.setattr(kernel, "weigh", lambda *a: weigh(*a[:-1], True))
    np.testing.assert_array_equal(level_costs(*arguments), compiled)
    monkeypatch.setattr(context_mixing_costs, "available", lambda: False)
    np.testing.assert_array_equal(level_costs(*arguments), compiled)


@needs_kernel
@pytest.mark.parametrize("step", [0.4, 1.5])
def test_the_costs_of_the_codes_are_their_bytes(step):
    codes, in_steps, geometry, tensor = quantized((64, 48), "matrix", step)
    costs = level_costs(codes, in_steps, geometry, tensor.trellis)
    grids = follow_machine(codes, tensor.trellis).astype(int)
    levels = (np.abs(codes) + grids) >> 1
    nearest = ((np.abs(in_steps) + grids) * 0.5).astype(int)
    choice = np.where(levels > 0, NEAREST + levels - nearest, ZERO)
    assert choice.min() >= ZERO and choice.max() <= ABOVE
    chosen = costs[(*np.indices(codes.shape), grids, choice)]
    data = ContextMixing(tensor.trellis).encode(tensor.codes)
    assert chosen.sum() / 256 == pytest.approx(8 * len(data), rel=0.02)


def test_what_levels_cost_is_plausible():
    codes, in_steps, geometry, tensor = quantized((9, 30), "matrix", 0.7)
    # The reference serves where there is no compiled kernel.
    costs = level_costs(codes, in_steps, geometry, tensor.trellis)
    nearest = (np.abs(in_steps) * 0.5).astype(int)
    even = costs[..., 0, :].astype(int)
    assert (even[nearest == 0, BELOW] == LARGEST_COST).all()
    same = even[nearest == 0]
    np.testing.assert_array_equal(same[:, ZERO], same[:, NEAREST])
    assert (even[nearest >= 4, ZERO] == LARGEST_COST).all()
    # Levels far out are dear: a level above the tenth takes several bits.
    assert even[nearest > 2, ABOVE].mean() > even[nearest == 0, NEAREST].mean()


def test_codes_of_another_trellis_are_refused():
    codes, in_steps, geometry, tensor = quantized((9, 30), "matrix", 0.4)
    with pytest.raises(SqueezeError, match="Received"):
        level_costs(codes + 1, in_steps, geometry, tensor.trellis)
