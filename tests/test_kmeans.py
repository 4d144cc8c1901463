import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze import quantizers
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers import KMeansQuantizer, MeanSquaredErrorQuantizer
from keras_squeeze.quantizers.kmeans_levels import SortedValues, optimal_levels
from keras_squeeze.quantizers.kmeans_partition import Partitions
from keras_squeeze.quantizers.learned_codebook import place_levels, round_levels
from keras_squeeze.quantizers.quantized_tensor import codebook_index
from keras_squeeze.testing import check_quantizer

GRANULARITIES = [
    {"granularity": "per_tensor"},
    {"granularity": "per_channel"},
    {"granularity": "per_group", "group_size": 3},
]


def brute_force(points, weights, clusters, pinned=False):
    """The least error over all partitions of sorted points into runs."""
    best = np.inf
    count = len(points)
    places = range(count + 1)
    for cuts in itertools.combinations_with_replacement(places, clusters - 1):
        runs = list(itertools.pairwise((0, *cuts, count)))
        free = sum(error_of_run(points[a:b], weights[a:b]) for a, b in runs)
        if not pinned:
            best = min(best, free)
            continue
        for a, b in runs:
            at_zero = float(np.sum(weights[a:b] * points[a:b] ** 2))
            own = error_of_run(points[a:b], weights[a:b])
            best = min(best, free - own + at_zero)
    return best


def error_of_run(points, weights):
    if not len(points):
        return 0.0
    mean = np.average(points, weights=weights)
    return float(np.sum(weights * (points - mean) ** 2))


def error_of_levels(points, weights, levels):
    distance = np.abs(points[:, None] - levels).min(axis=1)
    return float(np.sum(weights * distance**2))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 4))
def test_partitions_are_the_best_there_are(seed, count, clusters):
    rng = np.random.default_rng(seed)
    points = np.sort(np.round(rng.normal(size=(3, count)), seed % 3), axis=1)
    weights = rng.random((3, count)) + 0.01
    partitions = Partitions(points, weights, clusters)
    runs = partitions.boundaries([clusters] * 3)
    for row in range(3):
        best = brute_force(points[row], weights[row], clusters)
        assert partitions.costs[clusters, row, -1] == pytest.approx(
            best, abs=1e-9
        )
        reached = sum(
            error_of_run(points[row, a:b], weights[row, a:b])
            for a, b in itertools.pairwise(runs[row])
        )
        assert reached == pytest.approx(best, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(2, 4))
def test_levels_with_a_zero_among_them_are_the_best_there_are(
    seed, count, levels
):
    rng = np.random.default_rng(seed)
    points = np.sort(np.round(rng.normal(0.4, 1, count), 1))
    weights = rng.random(count) + 0.01
    row = SortedValues.of(points, weights)
    (found,) = optimal_levels([row], levels, [True])
    assert 0.0 in found
    assert len(found) <= levels
    best = brute_force(points, weights, levels, pinned=True)
    reached = error_of_levels(points, weights, found)
    assert reached == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("zero", [False, True])
def test_binned_rows_lose_next_to_nothing(rng, zero, monkeypatch):
    values = rng.laplace(size=3000)
    rows = [SortedValues.of(values)]
    (exact,) = optimal_levels(rows, 8, [zero])
    monkeypatch.setattr(
        "keras_squeeze.quantizers.kmeans_levels._MOST_POINTS", 256
    )
    (binned,) = optimal_levels(rows, 8, [zero])
    least = error_of_levels(values, np.ones(3000), exact)
    reached = error_of_levels(values, np.ones(3000), binned)
    assert least * (1 - 1e-12) <= reached < least * 1.002


def test_many_rows_are_solved_as_each_alone(rng):
    values = [rng.normal(size=n) for n in (5, 40, 200, 3)]
    rows = [SortedValues.of(v) for v in values]
    together = optimal_levels(rows, 4, [False, True, True, False])
    for i, pinned in enumerate((False, True, True, False)):
        (alone,) = optimal_levels([rows[i]], 4, [pinned])
        np.testing.assert_allclose(together[i], alone, 1e-12, 1e-12)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_contract(bits, granularity):
    check_quantizer(quantizers.get("kmeans", bits=bits, **granularity))
    check_quantizer(KMeansQuantizer(bits, zero_level=True, **granularity))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", [2, 4])
def test_codes_and_codebook_follow_the_contract(rng, granularity, bits):
    kernel = rng.normal(size=(3, 3, 4, 6)).astype("float32")
    kernel[rng.random(kernel.shape) < 0.3] = 0
    tensor = KMeansQuantizer(bits, **granularity).encode(kernel, axis=3)
    rows = 6 if granularity["granularity"] == "per_channel" else 1
    assert tensor.codebook.shape == (rows, 2**bits)
    assert not tensor.dequantize()[kernel == 0].any()
    channels = np.moveaxis(tensor.codes, 3, 0).reshape(rows, -1)
    for codes, levels in zip(channels, tensor.codebook, strict=True):
        used = np.unique(codebook_index(codes, bits))
        assert np.all(np.diff(levels[used]) > 0)
        assert not np.delete(levels, used).any()


def test_the_error_is_below_that_of_a_uniform_grid(rng):
    kernel = rng.laplace(size=(60, 50)).astype("float32")
    uniform = MeanSquaredErrorQuantizer(4).encode(kernel, axis=1).dequantize()
    for granularity in GRANULARITIES[1:]:
        found = KMeansQuantizer(4, **granularity).encode(kernel, axis=1)
        error = np.sum((found.dequantize() - kernel) ** 2)
        assert error < 0.8 * np.sum((uniform - kernel) ** 2)


def test_importance_moves_levels_to_what_matters(rng):
    kernel = rng.normal(size=(50, 40)).astype("float32")
    importance = np.where(kernel > 0.5, 100.0, 0.01)
    for granularity in GRANULARITIES:
        quantizer = KMeansQuantizer(2, **granularity)
        plain = quantizer.encode(kernel, axis=1).dequantize()
        weighted = quantizer.encode(kernel, axis=1, importance=importance)
        errors = [
            np.sum(importance * (found - kernel) ** 2)
            for found in (weighted.dequantize(), plain)
        ]
        assert errors[0] < 0.5 * errors[1]
    same = quantizer.encode(kernel, axis=1, importance=np.zeros((50, 40)))
    assert np.array_equal(same.dequantize(), plain)


def test_few_values_come_back_exactly_and_levels_stay_as_they_are(rng):
    levels = rng.normal(size=8).astype("float32")
    kernel = rng.choice(levels, (20, 30))
    for granularity in GRANULARITIES[:2]:
        quantizer = KMeansQuantizer(3, **granularity)
        assert np.array_equal(quantizer.encode(kernel).dequantize(), kernel)
    many = rng.normal(size=(20, 30)).astype("float32")
    once = KMeansQuantizer(3).encode(many, axis=1).dequantize()
    assert np.array_equal(
        KMeansQuantizer(3).encode(once, axis=1).dequantize(), once
    )


def test_rounded_levels_and_their_places():
    levels = np.array([-1 / 3, 0.1, 1e-42, 1e30, 3.4028235e38])
    rounded = round_levels(levels, 4)
    assert rounded[2] == 0.0
    assert np.isfinite(rounded.astype("float32")).all()
    assert not (rounded[:4].astype("float32").view("uint32") & 0xFFF).any()
    np.testing.assert_allclose(rounded, levels, 2e-4, 1e-40)
    book, used = place_levels([np.arange(1.0, 5), np.array([-1.0])], 2)
    assert book.tolist() == [[1, 2, 3, 4], [0, 0, -1, 0]]
    assert used.sum(axis=1).tolist() == [4, 1]
    assert place_levels([np.array([-2.0, 3])], 1)[0].tolist() == [[-2, 3]]


def test_time_grows_no_faster_than_sorting(rng):
    def seconds(count):
        values = rng.normal(size=count).astype("float32")
        start = time.process_time()
        KMeansQuantizer(4, "per_tensor").encode(values)
        return time.process_time() - start

    small = min(seconds(20_000) for _ in range(3))
    assert min(seconds(400_000) for _ in range(2)) < 20 * small


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (1,)])
def test_small_shapes(shape):
    for granularity in GRANULARITIES:
        quantizer = KMeansQuantizer(3, **granularity)
        values = np.full(shape, 0.375, "float32")
        assert np.array_equal(quantizer.encode(values).dequantize(), values)


def test_bad_input():
    for bits in (0, 9, 16):
        with pytest.raises(SqueezeError, match="Received"):
            KMeansQuantizer(bits)
    quantizer = KMeansQuantizer(2)
    with pytest.raises(NonFiniteError, match="layer/kernel"):
        quantizer.encode(np.array([1.0, np.nan]), name="layer/kernel")
    for importance in (np.ones(3), np.array([-1.0, 1]), np.array([np.nan, 1])):
        with pytest.raises(SqueezeError, match="importance"):
            quantizer.encode(np.ones(2), importance=importance)
