import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze import quantizers
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers import (
    EntropyConstrainedQuantizer,
    KMeansQuantizer,
    MeanSquaredErrorQuantizer,
)
from keras_squeeze.quantizers.entropy_constrained_levels import (
    WeightClasses,
    iterate,
    priced_intervals,
)
from keras_squeeze.testing import check_quantizer

GRANULARITIES = [
    {"granularity": "per_tensor"},
    {"granularity": "per_channel"},
    {"granularity": "per_group", "group_size": 3},
]


def entropy(codes):
    shares = np.unique(codes, return_counts=True)[1] / codes.size
    return float(-shares @ np.log2(shares))


def snr_db(exact, approximate, weights=1.0):
    noise = np.sum(weights * np.square(exact - approximate))
    return 10 * np.log10(np.sum(weights * np.square(exact)) / noise)


def laplacian(*shape, seed=0):
    values = np.random.default_rng(seed).laplace(size=shape)
    return values.astype("float32")


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_intervals_are_where_the_cheapest_level_changes(seed, count):
    rng = np.random.default_rng(seed)
    levels = np.sort(rng.normal(size=count))
    penalties = rng.exponential(0.3, size=count)
    chosen, bounds = priced_intervals(levels, penalties)
    values = rng.normal(0, 2, 200)
    costs = (values[:, None] - levels) ** 2 + penalties
    found = chosen[np.searchsorted(bounds, values)]
    assert np.all(np.diff(bounds) > 0)
    np.testing.assert_allclose(
        costs[np.arange(200), found], costs.min(axis=1), 1e-9, 1e-12
    )


def test_cost_falls_with_every_pass_and_error_and_entropy_are_right():
    values = laplacian(4000)
    classes = WeightClasses.of(values, None, keep_zeros=False)
    levels = np.linspace(-6, 6, 17)
    found = iterate(classes, levels, 0.2, pinned=False)
    cost = found.error + 0.2 * found.entropy
    chosen, bounds = priced_intervals(found.levels, 0.2 * found.bits)
    places = chosen[np.searchsorted(bounds, values)]
    error = np.mean((values - found.levels[places]) ** 2)
    assert error == pytest.approx(found.error, rel=1e-3)
    assert entropy(places) == pytest.approx(found.entropy, rel=1e-3)
    nearest = np.abs(values[:, None] - levels).argmin(axis=1)
    start = np.mean((values - levels[nearest]) ** 2) + 0.2 * entropy(nearest)
    assert cost < start


@pytest.mark.parametrize(
    "arguments",
    [
        {"bits": 1, **GRANULARITIES[1]},
        {"bits": 8, **GRANULARITIES[0]},
        {"bits": 3, **GRANULARITIES[2]},
        {"bits": 3, "zero_level": True, "entropy_bits": 1.5},
    ],
)
def test_contract(arguments):
    check_quantizer(quantizers.get("entropy_constrained", **arguments))


@pytest.mark.parametrize("wanted", [0.4, 1.0, 2.0, 3.0])
def test_the_wanted_entropy_is_met(wanted):
    values = laplacian(100, 100)
    quantizer = EntropyConstrainedQuantizer(6, entropy_bits=wanted)
    reached = entropy(quantizer.encode(values).codes)
    assert 0.97 * wanted <= reached <= wanted


def test_less_error_than_grids_and_kmeans_at_equal_entropy():
    values = laplacian(100, 100)
    for other in (
        KMeansQuantizer(3, "per_tensor"),
        MeanSquaredErrorQuantizer(4, "per_tensor"),
    ):
        tensor = other.encode(values)
        bits = entropy(tensor.codes)
        found = EntropyConstrainedQuantizer(6, entropy_bits=bits).encode(values)
        gain = snr_db(values, found.dequantize())
        gain -= snr_db(values, tensor.dequantize())
        assert entropy(found.codes) <= bits
        assert gain > 0.3


def test_known_performance_on_normal_values():
    # The optimum at two bits has 10.55 dB.
    values = np.random.default_rng(0).normal(size=60_000)
    found = EntropyConstrainedQuantizer(5, entropy_bits=2.0).encode(values)
    missing = 2.0 - entropy(found.codes)
    assert snr_db(values, found.dequantize()) + 6.02 * missing > 10.45


def test_rate_weight_trades_error_for_bits():
    values = laplacian(80, 80)
    tensors = [
        EntropyConstrainedQuantizer(5, rate_weight=weight).encode(values)
        for weight in (0.0, 0.3, 1.0, 4.0)
    ]
    rates = [entropy(tensor.codes) for tensor in tensors]
    ratios = [snr_db(values, tensor.dequantize()) for tensor in tensors]
    assert np.all(np.diff(rates) < 0)
    assert np.all(np.diff(ratios) < 0)
    plain = KMeansQuantizer(5, "per_tensor").encode(values)
    assert np.array_equal(tensors[0].dequantize(), plain.dequantize())


def test_importance_is_weighed_against_bits():
    values = laplacian(100, 80)
    rng = np.random.default_rng(2)
    importance = np.exp(2 * rng.normal(size=values.shape))
    quantizer = EntropyConstrainedQuantizer(5, entropy_bits=2.0)
    plain = quantizer.encode(values)
    weighted = quantizer.encode(values, importance=importance)
    assert entropy(weighted.codes) <= 2.01
    gain = snr_db(values, weighted.dequantize(), importance)
    assert gain > 2 + snr_db(values, plain.dequantize(), importance)


def test_zeros_stay_zero_even_where_zero_is_the_rarest_code():
    values = laplacian(50, 40) + 3
    values[::10, ::10] = 0
    for granularity in GRANULARITIES:
        quantizer = EntropyConstrainedQuantizer(
            4, rate_weight=8.0, **granularity
        )
        found = quantizer.encode(values, axis=1).dequantize()
        assert not found[values == 0].any()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (1,), (2, 2)])
def test_small_and_constant_arrays(shape):
    values = np.full(shape, -0.75, "float32")
    for arguments in ({}, {"entropy_bits": 0.5}):
        found = EntropyConstrainedQuantizer(3, **arguments).encode(values)
        assert np.array_equal(found.dequantize(), values)


def test_extreme_values_stay_finite():
    values = np.array([3e38, -3e38, 1e-44, 2.0] * 30, "float32")
    values *= np.linspace(0.5, 1, 120, dtype="float32")
    for arguments in ({"rate_weight": 1.0}, {"entropy_bits": 0.8}):
        quantizer = EntropyConstrainedQuantizer(3, **arguments)
        assert np.isfinite(quantizer.encode(values).dequantize()).all()


def test_bad_arguments():
    for arguments in (
        {"bits": 16},
        {"rate_weight": -1.0},
        {"rate_weight": float("nan")},
        {"entropy_bits": 0.0},
        {"entropy_bits": float("inf")},
        {"entropy_bits": 1.0, "rate_weight": 1.0},
    ):
        with pytest.raises(SqueezeError, match="Received"):
            EntropyConstrainedQuantizer(**arguments)
    with pytest.raises(NonFiniteError, match="layer/kernel"):
        EntropyConstrainedQuantizer().encode(
            np.array([np.inf, 1.0]), name="layer/kernel"
        )
