import numpy as np
import pytest

from keras_squeeze import quantizers
from keras_squeeze.quantizers import (
    MeanSquaredErrorQuantizer,
    RateDistortionQuantizer,
    TrellisQuantizer,
    estimate_bytes,
)
from keras_squeeze.quantizers.rate_distortion_choice import cheapest_codes
from keras_squeeze.quantizers.rate_distortion_tables import (
    CLASSES,
    EVEN,
    ODD,
    PADDING_CLASS,
    SCALAR,
    expected_magnitude_classes,
    observed_rates,
    prior_rates,
    table_size,
)
from keras_squeeze.testing import check_quantizer


def normal(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype(np.float32)


def squared_error(weights, tensor):
    return np.square(tensor.dequantize() - weights, dtype=np.float64).sum()


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_contract(bits, granularity):
    check_quantizer(
        quantizers.get("rate_distortion", bits=bits, granularity=granularity)
    )


def test_without_weight_on_bits_it_rounds_to_the_nearest():
    weights = normal(60, 40)
    for bits in (3, 8):
        plain = MeanSquaredErrorQuantizer(bits, granularity="per_tensor")
        ours = RateDistortionQuantizer(bits, rate_weight=0.0)
        expected, found = plain.encode(weights), ours.encode(weights)
        assert np.array_equal(found.codes, expected.codes)
        assert np.array_equal(found.scale, expected.scale)


@pytest.mark.parametrize("step", [0.3, 0.8, 1.5])
def test_it_beats_rounding_at_equal_size(step):
    weights = normal(128, 128) * np.geomspace(0.3, 3, 128).astype(np.float32)
    ours = RateDistortionQuantizer(step=step).encode(weights)
    low, high = step, 2 * step
    for _ in range(20):
        middle = (low + high) / 2
        nearest = RateDistortionQuantizer(step=middle, rate_weight=0.0).encode(
            weights
        )
        larger = estimate_bytes(nearest) > estimate_bytes(ours)
        low, high = (middle, high) if larger else (low, middle)
    assert squared_error(weights, ours) < squared_error(weights, nearest)


def test_importance_keeps_codes():
    weights = np.full((50, 50), 0.8, np.float32)
    weights[:, ::7] = normal(50, 8) * 0.1
    importance = np.ones((50, 50))
    importance[:25] = 1e-3
    quantizer = RateDistortionQuantizer(step=1.0)
    tensor = quantizer.encode(weights, importance=importance)
    kept = np.abs(tensor.codes).mean(axis=1)
    assert kept[25:].mean() > kept[:25].mean()


def test_nothing_important_costs_nothing():
    tensor = RateDistortionQuantizer(step=0.1).encode(
        normal(20, 20), importance=np.zeros((20, 20))
    )
    assert not tensor.codes.any()


def test_classes_follow_channels_and_inputs():
    magnitudes = np.ones((4, 1, 5), np.float32)
    magnitudes[1] *= 64
    magnitudes[:, :, 2] *= 64
    classes = expected_magnitude_classes(magnitudes).astype(int)
    assert classes.shape == magnitudes.shape
    assert (classes[1, 0] > classes[0, 0]).all()
    assert (np.delete(classes[:, 0], 2, axis=1) < classes[:, 0, 2:3]).all()
    assert expected_magnitude_classes(np.zeros((2, 3, 4), "f")).max() == 0


@pytest.mark.parametrize("grids", [(SCALAR,), (EVEN, ODD)])
def test_rates_are_those_of_probabilities(grids):
    bits = prior_rates(grids, 64)
    assert bits.shape == (CLASSES, len(grids), 64)
    assert not bits[PADDING_CLASS].any()
    # A sign costs a bit, so twice the probability of both of them.
    probabilities = 2.0 ** -bits[:PADDING_CLASS]
    probabilities[..., 1:] *= 2
    assert np.allclose(probabilities.sum(axis=-1), 1, atol=1e-4)


def test_rates_learn_from_levels():
    classes = np.full(1000, 20, np.uint8)
    levels = np.repeat(np.array([0, 5], np.int32), 500)
    bits = observed_rates(levels, None, classes, (SCALAR,), 16)
    assert bits[20, 0, 0] == pytest.approx(1.0, abs=0.1)
    assert bits[20, 0, 5] == pytest.approx(2.0, abs=0.1)
    assert bits[20, 0, 3] > 8
    assert np.array_equal(bits[21], prior_rates((SCALAR,), 16)[21])


def test_every_grid_learns_its_own():
    classes = np.full(2000, 20, np.uint8)
    grids = np.tile(np.array([0, 1], np.uint8), 1000)
    levels = np.where(grids == 0, 0, 1).astype(np.int32)
    bits = observed_rates(levels, grids, classes, (EVEN, ODD), 16)[20]
    assert bits[0, 0] < 0.1 and bits[1, 1] < 1.1
    assert bits[0, 1] > 5 and bits[1, 0] > 4


def test_cheapest_codes_take_the_one_below_or_zero_where_it_pays():
    values = np.array([2.6, -2.6, 0.9, 2.6], np.float32)
    classes = np.array([0, 0, 0, 1], np.uint8)
    costs = np.array([[0.0, 0.5, 1.0, 1.5], [0, 0, 0, 0]], np.float32)
    codes = cheapest_codes(values, None, classes, costs)
    assert codes.tolist() == [2, -2, 1, 3]
    dear = np.array([[0.0, 9.0, 9.0, 9.0]] * 2, np.float32)
    assert not cheapest_codes(values, None, classes, dear).any()
    importance = np.full(4, 100, np.float32)
    kept = cheapest_codes(values, importance, classes, costs)
    assert kept.tolist() == [3, -3, 1, 3]


def test_tables_grow_with_the_values():
    sizes = [table_size(np.array([x], np.float32)) for x in (0, 20, 300, 30000)]
    assert sizes == [16, 32, 512, 1024]


@pytest.mark.parametrize("step", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["scalar", "trellis"])
def test_estimated_size_is_near_the_entropy(step, kind):
    weights = normal(128, 128)
    if kind == "scalar":
        tensor = RateDistortionQuantizer(step=step).encode(weights)
        _, counts = np.unique(tensor.codes, return_counts=True)
        shares = counts / counts.sum()
        bits = -(shares * np.log2(shares)).sum()
    else:
        # The grid of a code is known before it: one bit less, or so.
        tensor = TrellisQuantizer(8, step=step / 2).encode(weights)
        scalar = RateDistortionQuantizer(step=step).encode(weights)
        bits = 8 * estimate_bytes(scalar) / weights.size
    estimated = 8 * estimate_bytes(tensor) / weights.size
    assert estimated == pytest.approx(bits, rel=0.1, abs=0.05)
