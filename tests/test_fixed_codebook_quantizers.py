import itertools

import numpy as np
import pytest

from keras_squeeze import quantizers
from keras_squeeze.errors import SqueezeError, UnknownIdentifierError
from keras_squeeze.quantizers import (
    PowerOfTwoQuantizer,
    TernaryQuantizer,
    fixed_codebook,
)
from keras_squeeze.quantizers.fixed_codebooks import codebook_bits
from keras_squeeze.quantizers.scale import codebook_scale
from keras_squeeze.quantizers.sorted_magnitudes import SortedMagnitudes

NAMES = ("nf4", "float8_e4m3", "float8_e5m2", "power_of_two")


def normal(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_levels_ascend_around_an_exact_zero(name):
    for bits in codebook_bits(name):
        levels = fixed_codebook(name, bits)
        assert levels.shape == (2**bits,) and levels.dtype == np.float32
        used = levels[levels != 0]
        assert np.all(np.diff(used) > 0)
        zero = 7 if name == "nf4" else 2 ** (bits - 1)
        assert levels[zero] == 0
        assert np.all(levels[:zero] <= 0) and np.all(levels[zero:] >= 0)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float8_e4m3", "float8_e4m3fn"), ("float8_e5m2", "float8_e5m2")],
)
def test_float8_levels_are_all_numbers_of_the_format(name, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    every = np.arange(256).astype(np.uint8).view(getattr(ml_dtypes, dtype))
    every = every.astype(np.float32)
    finite = np.unique(every[np.isfinite(every)])
    assert np.array_equal(np.unique(fixed_codebook(name, 8)), finite)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_rounds_as_the_format_does(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    weights = normal(500) * np.float32(30)
    largest = {"float8_e4m3fn": 448, "float8_e5m2": 57344}[dtype]
    # A weight that makes the scale 1.
    weights[0] = largest
    quantizer = quantizers.get(dtype.removesuffix("fn"))
    decoded = quantizer.encode(weights).dequantize()
    assert quantizer.encode(weights).scale == 1
    exact = weights.astype(getattr(ml_dtypes, dtype)).astype(np.float32)
    error, best = np.abs(decoded - weights), np.abs(exact - weights)
    # Ties go to the even number there and towards zero here.
    assert np.array_equal(error, best)


def test_power_of_two_levels_halve():
    levels = fixed_codebook("power_of_two", 4)
    assert levels[9:].tolist() == [2.0**-k for k in range(6, -1, -1)]
    assert np.array_equal(levels[1:8], -levels[:8:-1])
    assert levels[0] == 0
    smallest = [
        np.abs(levels[levels != 0]).min()
        for levels in (fixed_codebook("power_of_two", b) for b in (6, 7, 8))
    ]
    assert smallest == [2.0**-30, 2.0**-62, 2.0**-62]


@pytest.mark.parametrize(("name", "bits"), [("nf4", 8), ("power_of_two", 1)])
def test_codebooks_of_other_widths(name, bits):
    with pytest.raises(SqueezeError, match=rf"one of .*{name}.*bits={bits}"):
        fixed_codebook(name, bits)


def test_unknown_codebook():
    with pytest.raises(UnknownIdentifierError, match=r"nf4.*Received: 'nf5'"):
        fixed_codebook("nf5", 4)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_goes_to_its_nearest_level(name):
    quantizer = quantizers.get(name, granularity="local", group_size=16)
    weights = normal(8, 50)
    tensor = quantizer.encode(weights, axis=0)
    grid = fixed_codebook(name, quantizer.bits)
    scale = np.repeat(tensor.scale, 16, axis=1)[:, :50]
    levels = grid * scale[..., None]
    nearest = np.abs(levels - weights[..., None]).min(axis=2)
    error = np.abs(tensor.dequantize() - weights)
    assert np.allclose(error, nearest, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_power_of_two_scale_is_near_the_best_of_all(bits):
    weights = normal(1, 3000)
    quantizer = PowerOfTwoQuantizer(bits)
    decoded = quantizer.encode(weights, axis=0).dequantize()
    positive = np.sort(fixed_codebook("power_of_two", bits))
    positive = positive[positive > 0].astype(np.float64)
    best = np.inf
    for scale in np.linspace(0.3, 5, 400):
        levels = np.append(0, positive * scale)
        middle = (levels[1:] + levels[:-1]) / 2
        rounded = levels[np.searchsorted(middle, np.abs(weights))]
        best = min(best, np.square(rounded - np.abs(weights)).sum())
    assert np.square(decoded - weights).sum() < best * 1.003


def test_power_of_two_of_two_bits_is_as_good_as_the_best_ternary():
    weights = normal(20, 300)
    errors = [
        np.square(q.encode(weights, axis=0).dequantize() - weights).sum()
        for q in (PowerOfTwoQuantizer(2), TernaryQuantizer())
    ]
    assert errors[1] <= errors[0] * 1.0001 < errors[1] * 1.001


def test_more_bits_never_lose_more_with_powers_of_two():
    weights = normal(4, 500)
    errors = [
        np.square(
            PowerOfTwoQuantizer(bits).encode(weights, axis=0).dequantize()
            - weights
        ).sum()
        for bits in range(2, 9)
    ]
    assert all(b <= a * 1.001 for a, b in itertools.pairwise(errors))


def test_sorted_magnitudes_find_the_scale_by_block():
    blocks = np.array([[3.0, -3.0, 0.0], [0.0, 0.0, 0.0], [5e-9, 0, 0]], "f")
    levels = np.array([1.0])
    scale = SortedMagnitudes(blocks).best_scale(levels, np.array([1.0, 0.3]))
    assert scale.tolist() == pytest.approx([3.0, 0.0, 5e-9])


@pytest.mark.parametrize("name", NAMES)
def test_products_with_levels_are_normal_and_finite(name):
    levels = fixed_codebook(name, codebook_bits(name)[-1])
    scales = codebook_scale(
        np.array([0.0, 1e-45, 1e-38, 1.0, 3e38, 1e300]), levels
    )
    assert scales[0] == 0 and not np.any(scales.view(np.uint32) & 0xFFFF)
    products = scales[1:, None] * levels[levels != 0]
    assert np.isfinite(products).all()
    assert np.abs(products).min() >= np.finfo(np.float32).tiny


def test_nf4_beats_four_uniform_bits_on_normal_groups():
    weights = normal(64, 640)
    arguments = {"bits": 4, "granularity": "per_group", "group_size": 64}
    errors = [
        np.square(
            quantizers.get(name, **arguments)
            .encode(weights, axis=0)
            .dequantize()
            - weights
        ).sum()
        for name in ("nf4", "absmax")
    ]
    assert errors[0] < 0.85 * errors[1]
