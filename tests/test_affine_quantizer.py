import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import AffineQuantizer, MeanSquaredErrorQuantizer
from keras_squeeze.quantizers.affine import SCALE_RULES

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def normal(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype(np.float32)


def squared_error(quantizer, weights, axis=0):
    decoded = quantizer.encode(weights, axis=axis).dequantize()
    return np.square(decoded - weights).sum()


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 12), elements=FLOATS),
    st.integers(1, 8),
    st.sampled_from(SCALE_RULES),
)
def test_zeros_stay_and_values_stay_finite(array, bits, rule):
    weights = np.append(array, np.float32(0))
    quantizer = AffineQuantizer(bits, scale_rule=rule)
    decoded = quantizer.encode(weights).dequantize()
    assert np.isfinite(decoded).all()
    assert not decoded[weights == 0].any()


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_absmax_range_loses_at_most_half_a_step(bits):
    weights = normal(6, 200) + np.float32(1.5)
    quantizer = AffineQuantizer(bits, scale_rule="absmax")
    tensor = quantizer.encode(weights, axis=0)
    error = np.abs(tensor.dequantize().astype(np.float64) - weights)
    # Rounding the zero point moves the range by up to half a step.
    assert np.all(error <= tensor.scale.astype(np.float64) * 1.001)
    assert tensor.codes.min() >= -(2 ** (bits - 1))
    assert tensor.codes.max() < 2 ** (bits - 1)
    inside = error < tensor.scale * 0.501
    assert inside.mean() > 0.98


def test_one_sided_weights_use_all_codes():
    weights = np.abs(normal(1, 4000))
    affine = AffineQuantizer(bits=4).encode(weights, axis=0)
    assert affine.zero_point.tolist() == [[-8]]
    assert len(np.unique(affine.codes)) == 16
    symmetric = MeanSquaredErrorQuantizer(bits=4)
    assert squared_error(AffineQuantizer(4), weights) < 0.4 * squared_error(
        symmetric, weights
    )


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_mse_is_near_the_best_of_all_ranges(bits):
    weights = normal(1, 400) + np.float32(0.4)
    values = weights[0].astype(np.float64)
    first, last = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    best = np.inf
    for zero in range(first, last + 1):
        for scale in np.linspace(0.05, 2.0, 150):
            codes = np.clip(np.rint(values / scale) + zero, first, last)
            error = np.square((codes - zero) * scale - values).sum()
            best = min(best, error)
    assert squared_error(AffineQuantizer(bits), weights) < best * 1.02


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_mse_loses_no_more_than_the_whole_range(bits):
    weights = normal(9, 300)
    quantizers = [AffineQuantizer(bits, scale_rule=r) for r in SCALE_RULES]
    whole, _, least = (squared_error(q, weights) for q in quantizers)
    assert least <= whole * (1 + 1e-5)


def test_percentile_clips_either_side():
    weights = np.linspace(-1, 3, 401, dtype=np.float32)[None]
    weights[0, :2] = -50, 70
    arguments = {"bits": 8, "scale_rule": "percentile"}
    tensor = AffineQuantizer(percentile=90, **arguments).encode(weights, 0)
    decoded = tensor.dequantize()
    assert decoded.max() == pytest.approx(2.7, abs=0.05)
    assert decoded.min() == pytest.approx(-0.9, abs=0.05)
    whole = AffineQuantizer(percentile=100, **arguments).encode(weights, 0)
    assert whole.dequantize().max() == pytest.approx(70, abs=0.5)


def test_one_bit_takes_the_better_two_levels():
    weights = np.array(
        [
            [1.0, -1.0, 1.5, -0.5],
            [3.0, 3.0, 0.0, -1.0],
            [-3.0, -3.0, 0.0, 1.0],
            [0.0, 0.0, 0.0, 0.0],
        ],
        np.float32,
    )
    tensor = AffineQuantizer(bits=1).encode(weights, axis=0)
    assert tensor.zero_point.ravel().tolist() == [0, -1, 1, 0]
    assert tensor.dequantize().tolist() == [
        [1.0, -1.0, 1.0, -1.0],
        [3.0, 3.0, 0.0, 0.0],
        [-3.0, -3.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ]


def test_one_bit_leaves_the_padding_of_a_short_group_out():
    weights = np.full((1, 4), -2.0, np.float32)
    quantizer = AffineQuantizer(1, granularity="local", group_size=3)
    assert np.array_equal(quantizer.encode(weights, 0).dequantize(), weights)


def test_zero_points_have_the_shape_of_the_scales():
    tensor = AffineQuantizer(4, granularity="local", group_size=5).encode(
        normal(3, 3, 7), axis=2
    )
    assert tensor.zero_point.shape == tensor.scale.shape == (7, 2)
    assert tensor.zero_point.dtype == np.int16


@pytest.mark.parametrize("rule", ["min_max", None, 3])
def test_scale_rule_out_of_range(rule):
    with pytest.raises(SqueezeError, match=r"mse.*Received: scale_rule="):
        AffineQuantizer(scale_rule=rule)


def test_percentile_out_of_range():
    with pytest.raises(SqueezeError, match=r"Received: percentile=0"):
        AffineQuantizer(percentile=0)
