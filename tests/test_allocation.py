from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers import allocate, estimate_bytes, output_error
from keras_squeeze.quantizers.allocation_search import search_exponent


@pytest.fixture(scope="module")
def kernels():
    generator = np.random.default_rng(0)
    return {
        "conv/kernel": generator.normal(size=(3, 3, 8, 16)) * 0.3,
        "dense/kernel": generator.laplace(size=(96, 40)) * 0.02,
        "dead/kernel": np.zeros((32, 8)),
        "depthwise/kernel": generator.normal(size=(3, 3, 24, 1)),
    }


def relative_noise(weights, tensor):
    error = tensor.dequantize() - weights
    return np.mean(np.square(error)) / np.mean(np.square(weights))


@pytest.mark.parametrize("states", [None, 8, 32])
@pytest.mark.parametrize("wanted", [3.0, 12.0, 18.0, 30.0, 45.0])
def test_the_ratio_is_met(kernels, states, wanted):
    allocation = allocate(kernels, snr_db=wanted, states=states)
    live = {k: a for k, a in kernels.items() if a.any()}
    noise = sum(
        a.size * relative_noise(a, allocation.tensors[k])
        for k, a in live.items()
    )
    reached = -10 * np.log10(noise / sum(a.size for a in live.values()))
    assert reached == pytest.approx(wanted, abs=0.05)
    assert allocation.snr_db == pytest.approx(reached, abs=1e-3)
    assert not allocation.tensors["dead/kernel"].codes.any()


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.6])
def test_the_budget_is_kept_and_used(kernels, share):
    budget = int(share * sum(a.size for a in kernels.values()))
    allocation = allocate(kernels, max_bytes=budget)
    sizes = [estimate_bytes(t) for t in allocation.tensors.values()]
    assert allocation.num_bytes == sum(sizes)
    assert 0.96 * budget < allocation.num_bytes <= budget


def test_sizes_are_asked_of_the_caller(kernels):
    asked = set()

    def size(name, tensor):
        asked.add(name)
        return 2 * estimate_bytes(tensor)

    allocation = allocate(kernels, max_bytes=4000, size=size)
    assert asked == set(kernels)
    assert 3900 < allocation.num_bytes <= 4000


def test_an_ample_budget_is_left():
    kernels = {"kernel": np.random.default_rng(0).normal(size=(8, 8))}
    allocation = allocate(kernels, max_bytes=10**6)
    assert allocation.snr_db > 60
    assert allocation.num_bytes < 10**3


def test_more_quality_is_more_bytes(kernels):
    sizes = [
        allocate(kernels, quality=quality).num_bytes for quality in (0, 40, 80)
    ]
    assert sizes == sorted(set(sizes))
    assert allocate(kernels, quality=50).snr_db == pytest.approx(24, abs=0.05)


def test_steps_follow_the_spread_of_each_tensor(kernels):
    tensors = allocate(kernels, snr_db=18).tensors
    ratio = [
        float(tensors[k].scale[0, 0]) / np.sqrt(np.mean(kernels[k] ** 2))
        for k in ("conv/kernel", "dense/kernel", "depthwise/kernel")
    ]
    assert np.allclose(ratio, ratio[0], rtol=0.01)


def test_importance_decides_between_tensors():
    generator = np.random.default_rng(1)
    kernels = {k: generator.normal(size=(64, 64)) for k in ("dear", "cheap")}
    importance = {
        "dear": np.full((64, 64), 16.0),
        "cheap": np.full((64, 64), 1.0),
    }
    allocation = allocate(kernels, snr_db=20, importance=importance)
    scale = {k: float(t.scale[0, 0]) for k, t in allocation.tensors.items()}
    assert scale["cheap"] / scale["dear"] == pytest.approx(4, rel=0.02)
    noise = sum(
        (importance[k] * (t.dequantize() - kernels[k]) ** 2).sum()
        for k, t in allocation.tensors.items()
    )
    energy = sum((importance[k] * a**2).sum() for k, a in kernels.items())
    assert 10 * np.log10(energy / noise) == pytest.approx(20, abs=0.05)
    assert allocation.snr_db == pytest.approx(20, abs=0.05)


@pytest.mark.parametrize("states", [None, 8])
def test_grams_count_the_error_of_the_outputs(kernels, states):
    hidden = np.random.default_rng(2).normal(size=(500, 30))
    inputs = np.maximum(
        hidden @ np.random.default_rng(3).normal(size=(30, 96)), 0
    )
    gram = inputs.T @ inputs
    live = {k: a for k, a in kernels.items() if a.any()}
    allocation = allocate(
        live, snr_db=15, states=states, grams={"dense/kernel": gram}
    )
    noise = sum(
        a.size
        * (
            output_error(a, allocation.tensors[k], gram)
            if k == "dense/kernel"
            else relative_noise(a, allocation.tensors[k])
        )
        for k, a in live.items()
    )
    reached = -10 * np.log10(noise / sum(a.size for a in live.values()))
    assert reached == pytest.approx(15, abs=0.05)
    assert allocation.snr_db == pytest.approx(reached, abs=1e-3)
    plain = allocate(live, snr_db=15, states=states)
    assert allocation.num_bytes < 0.97 * plain.num_bytes


def test_the_executor_changes_nothing(kernels):
    alone = allocate(kernels, snr_db=15)
    with ThreadPoolExecutor(2) as executor:
        together = allocate(kernels, snr_db=15, executor=executor)
    for name, tensor in alone.tensors.items():
        assert np.array_equal(tensor.codes, together.tensors[name].codes)


def test_kinds_are_passed_on(kernels):
    allocation = allocate(
        kernels, snr_db=12, kinds={"dense/kernel": "matrix_transposed"}
    )
    geometry = allocation.tensors["dense/kernel"].trellis.geometry
    assert geometry == "matrix_transposed"
    assert allocation.tensors["conv/kernel"].trellis.geometry == "convolution"


@pytest.mark.parametrize("tensors", [{}, {"zeros": np.zeros((4, 4))}])
def test_nothing_to_lose(tensors):
    allocation = allocate(tensors, snr_db=10)
    assert allocation.snr_db == np.inf
    assert set(allocation.tensors) == set(tensors)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"snr_db": 10, "quality": 50},
        {"snr_db": -1.0},
        {"snr_db": np.nan},
        {"quality": 101},
        {"max_bytes": 0},
        {"max_bytes": 20},
        {"snr_db": 500.0},
        {"snr_db": 10, "importance": {"conv/kernel": np.ones((3, 3, 8, 16))}},
        {"snr_db": 10, "states": 5},
        {"snr_db": 10, "importance": {}, "grams": {"dense/kernel": np.eye(96)}},
        {"snr_db": 10, "grams": {"dense/kernel": np.eye(95)}},
        {"snr_db": 10, "target": "medium"},
    ],
)
def test_bad_arguments(kernels, arguments):
    with pytest.raises(SqueezeError, match=r"Received: "):
        allocate(kernels, **arguments)


def test_not_finite_weights_are_named(kernels):
    bad = {**kernels, "bad/kernel": np.array([[np.inf, 1.0]])}
    with pytest.raises(NonFiniteError, match=r"bad/kernel"):
        allocate(bad, snr_db=10)


@pytest.mark.parametrize("slope", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("target", [0.5, 3.0, 900.0])
def test_the_search_finds_what_a_curve_reaches(slope, target):
    seen = []

    def measure(exponent):
        seen.append(1000 / (1 + 2.0**exponent))
        return seen[-1]

    search_exponent(measure, 1.0, (0.99 * target, 1.01 * target), slope)
    if target > 1000 / 257:
        assert 0.99 * target <= seen[-1] <= 1.01 * target
    assert len(seen) <= 20
