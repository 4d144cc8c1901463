import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_squeeze import quantizers
from keras_squeeze.errors import (
    NonFiniteError,
    SqueezeError,
    UnknownIdentifierError,
)
from keras_squeeze.quantizers import (
    AbsMaxQuantizer,
    MeanSquaredErrorQuantizer,
    QuantizedTensor,
    Quantizer,
    pack_codes,
    storage_width,
    unpack_codes,
)
from keras_squeeze.quantizers.layout import from_canonical, to_canonical
from keras_squeeze.quantizers.scale import round_scale
from keras_squeeze.testing import check_quantizer

GRANULARITIES = [
    {"granularity": "per_tensor"},
    {"granularity": "per_channel"},
    {"granularity": "per_group", "group_size": 3},
]
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_dims=3), elements=FLOATS
)


def normal(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype(np.float32)


def snr_db(exact, approximate):
    noise = np.sum(np.square(exact - approximate))
    return 10 * np.log10(np.sum(np.square(exact)) / noise)


def accepted(name):
    """All quantizers of a name that its class accepts."""
    for bits in (*range(1, 9), 16):
        for granularity in GRANULARITIES:
            with contextlib.suppress(SqueezeError):
                yield quantizers.get(name, bits=bits, **granularity)


@pytest.mark.parametrize(
    "quantizer",
    [each for name in quantizers.registry for each in accepted(name)],
    ids=repr,
)
def test_contract(quantizer):
    check_quantizer(quantizer)


@pytest.mark.parametrize("name", list(quantizers.registry))
def test_every_announced_width_is_accepted(name):
    found = {quantizer.bits for quantizer in accepted(name)}
    announced = set(quantizers.get(name).supported_bits)
    assert found and found <= announced
    if name not in ("rate_distortion", "trellis"):
        assert found == announced


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        *(("ternary", 3), ("binary", 2), ("nf4", 8), ("float8_e4m3", 4)),
        *(("float8_e5m2", 16), ("power_of_two", 1), ("power_of_two", 16)),
    ],
)
def test_widths_a_quantizer_has_not(name, bits):
    match = rf"Expected `bits`.*'{name}'.*Received: bits={bits}"
    with pytest.raises(SqueezeError, match=match):
        quantizers.get(name, bits=bits)


def test_granularities_have_short_names():
    assert AbsMaxQuantizer(granularity="global") == AbsMaxQuantizer(
        granularity="per_tensor"
    )
    local = AbsMaxQuantizer(granularity="local", group_size=8)
    assert local.get_config()["granularity"] == "per_group"
    with pytest.raises(SqueezeError, match=r"Received: group_size=None"):
        AbsMaxQuantizer(granularity="local")


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_equal_importance_changes_nothing(bits, granularity):
    weights = normal(6, 50)
    quantizer = MeanSquaredErrorQuantizer(bits, **granularity)
    plain = quantizer.encode(weights, axis=0)
    weighted = quantizer.encode(
        weights, axis=0, importance=np.full(weights.shape, 3e-20)
    )
    assert np.array_equal(plain.scale, weighted.scale)
    assert np.array_equal(plain.codes, weighted.codes)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_importance_lowers_the_weighted_error(bits):
    weights = normal(8, 300)
    importance = np.abs(weights) ** 4
    importance[3] = 0
    quantizer = MeanSquaredErrorQuantizer(bits)
    plain = quantizer.encode(weights, axis=0).dequantize()
    tensor = quantizer.encode(weights, axis=0, importance=importance)
    weighted = tensor.dequantize()
    error, base = (
        (importance * np.square(values - weights)).sum(axis=1)
        for values in (weighted, plain)
    )
    assert np.all(error <= base * (1 + 1e-5))
    assert error.sum() < 0.8 * base.sum()
    assert np.array_equal(weighted[3], plain[3])


def test_importance_that_does_not_fit():
    with pytest.raises(SqueezeError, match=r"dense/kernel.*Received: \(3,\)"):
        MeanSquaredErrorQuantizer().encode(
            normal(2, 3), name="dense/kernel", importance=np.ones(3)
        )


def test_check_quantizer_finds_a_codebook_nobody_announced():
    class Hidden(AbsMaxQuantizer):
        id = "hidden"

        def _codebook(self):
            return np.zeros((1, 2**self.bits), np.float32)

    with pytest.raises(AssertionError, match=r"its codebook"):
        check_quantizer(Hidden(bits=4))


def test_check_quantizer_finds_a_missing_zero_point():
    class Promised(AbsMaxQuantizer):
        id = "promised"
        affine = True

    with pytest.raises(AssertionError, match=r"`affine` True"):
        check_quantizer(Promised(bits=4))


@pytest.mark.parametrize("name", list(quantizers.registry))
def test_arrays_without_values(name):
    for shape in ((0, 3), (3, 0), (0,)):
        tensor = quantizers.get(name).encode(np.zeros(shape, np.float32), 0)
        assert tensor.dequantize().shape == shape


def test_check_quantizer_finds_a_broken_promise():
    class Shifted(AbsMaxQuantizer):
        id = "shifted"

        def _codes(self, blocks, scale):
            return np.minimum(super()._codes(blocks, scale) + 1, 7)

    with pytest.raises(AssertionError, match=r"zero"):
        check_quantizer(Shifted(bits=4))


def test_check_quantizer_finds_scales_with_too_many_bits():
    class Unrounded(AbsMaxQuantizer):
        id = "unrounded"

        def choose_scale(self, blocks, counts):
            return np.abs(blocks).max(axis=1) / np.float32(7.0)

    with pytest.raises(AssertionError, match=r"8 significant bits"):
        check_quantizer(Unrounded(bits=4))


@settings(max_examples=60, deadline=None)
@given(ARRAYS, st.integers(2, 8))
def test_absmax_error_is_at_most_half_a_step(array, bits):
    tensor = AbsMaxQuantizer(bits=bits).encode(array, axis=0)
    error = np.abs(tensor.dequantize().astype(np.float64) - array)
    bound = tensor.scale.astype(np.float64) * 0.5 * (1 + 2.0**-8)
    # Scales near the largest float are rounded down, the peak is clipped.
    bound += np.abs(to_canonical(array, (0,))).max(axis=1)[:, None] * 2.0**-7
    assert np.all(to_canonical(error, (0,)) <= bound)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_mse_loses_no_more_than_absmax(bits):
    weights = normal(64, 16)
    errors = [
        np.square(q.encode(weights, axis=1).dequantize() - weights).sum(axis=0)
        for q in (AbsMaxQuantizer(bits), MeanSquaredErrorQuantizer(bits))
    ]
    assert np.all(errors[1] <= errors[0] * (1 + 1e-5))


def test_mse_is_near_the_best_of_an_exhaustive_search():
    weights = normal(1, 4000)
    found = MeanSquaredErrorQuantizer(bits=3).encode(weights, axis=0)
    best = min(
        np.square(np.clip(np.rint(weights / s), -3, 3) * s - weights).sum()
        for s in np.linspace(0.05, 1.5, 1000)
    )
    assert np.square(found.dequantize() - weights).sum() < best * 1.005


def test_mse_gains_most_at_few_bits():
    weights = normal(512, 32)
    gain = {}
    for bits in (3, 8):
        results = [
            snr_db(weights, q.encode(weights, axis=1).dequantize())
            for q in (AbsMaxQuantizer(bits), MeanSquaredErrorQuantizer(bits))
        ]
        gain[bits] = results[1] - results[0]
    assert gain[3] > 2.5 > 0.5 > gain[8] >= 0


def test_two_bits_are_ternary_and_one_bit_is_the_sign():
    weights = np.array([[1.0, -2.0, 0.0, 3.0]], np.float32)
    ternary = AbsMaxQuantizer(bits=2).encode(weights, axis=0)
    assert ternary.codes.tolist() == [[0, -1, 0, 1]]
    sign = AbsMaxQuantizer(bits=1).encode(weights, axis=0)
    assert sign.codes.tolist() == [[1, -1, 1, 1]]
    assert sign.scale.tolist() == [[1.5]]


def test_one_bit_mean_leaves_the_padding_of_the_last_group_out():
    weights = np.full((1, 4), 2.0, np.float32)
    quantizer = AbsMaxQuantizer(1, granularity="per_group", group_size=3)
    assert quantizer.encode(weights, axis=0).scale.tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_channels_of_zeros_stay_zero(bits):
    weights = np.array([[0.0, -0.0], [1.0, -1.0]], np.float32)
    tensor = AbsMaxQuantizer(bits).encode(weights, axis=0)
    assert not tensor.dequantize()[0].any()
    assert tensor.scale[0, 0] == 0


@pytest.mark.parametrize(
    "value", [3e38, 3.4028235e38, 65504.0, 1e-30, 1e-38, 1e-45]
)
@pytest.mark.parametrize("name", ["absmax", "mse"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_extreme_weights_stay_finite(name, bits, value):
    weights = np.array([value, -value, value / 2, 0.0], np.float32)
    decoded = quantizers.get(name, bits=bits).encode(weights).dequantize()
    assert np.isfinite(decoded).all()
    if value >= 1e-30 and bits >= 2:
        assert decoded[0] == pytest.approx(
            weights[0], rel=0.01 if name == "absmax" else 0.25
        )


def test_products_are_exact_and_normal():
    tensor = AbsMaxQuantizer().encode(normal(40, 8) * 1e-36, axis=1)
    exact = tensor.codes.astype(np.float64) * tensor.scale[:, 0]
    decoded = tensor.dequantize()
    assert np.array_equal(decoded.astype(np.float64), exact)
    assert np.abs(decoded[decoded != 0]).min() >= np.finfo(np.float32).tiny


def test_scales_are_bfloat16_values_rounded_up():
    exact = np.abs(normal(1000)) + 1e-3
    rounded = round_scale(exact, 127)
    assert np.all(rounded >= exact) and np.all(rounded <= exact * (1 + 2**-7))
    assert not np.any(rounded.view(np.uint32) & 0xFFFF)
    nearest = round_scale(exact, 1, up=False)
    assert np.all(np.abs(nearest - exact) <= exact * 2**-8)


def test_granularities_give_scales_of_their_shape():
    weights = normal(3, 3, 4, 6)
    shapes = {}
    for granularity in GRANULARITIES:
        quantizer = AbsMaxQuantizer(**granularity)
        tensor = quantizer.encode(weights, axis=(-1,))
        shapes[quantizer.granularity] = (tensor.scale.shape, tensor.axis)
    assert shapes == {
        "per_tensor": ((1, 1), ()),
        "per_channel": ((6, 1), (3,)),
        "per_group": ((6, 12), (3,)),
    }


def test_last_group_may_be_short():
    weights = normal(7, 2)
    quantizer = AbsMaxQuantizer(8, granularity="per_group", group_size=3)
    tensor = quantizer.encode(weights, axis=1)
    assert tensor.scale.shape == (2, 3)
    last = AbsMaxQuantizer(8).encode(weights[6:], axis=1)
    assert np.array_equal(tensor.dequantize()[6:], last.dequantize())


def test_finer_scales_lose_less():
    weights = normal(64, 32) * np.geomspace(0.01, 1, 32).astype(np.float32)
    losses = []
    for granularity in GRANULARITIES:
        tensor = AbsMaxQuantizer(4, **granularity).encode(weights, axis=1)
        losses.append(snr_db(weights, tensor.dequantize()))
    assert losses == sorted(losses) and losses[0] < losses[1] < losses[2]


def test_sixteen_bits_use_int16():
    tensor = AbsMaxQuantizer(16).encode(normal(5, 5), axis=1)
    assert tensor.codes.dtype == np.int16
    assert snr_db(normal(5, 5), tensor.dequantize()) > 80


@settings(max_examples=40, deadline=None)
@given(hnp.array_shapes(min_dims=1, max_dims=4), st.data())
def test_canonical_layout_round_trips(shape, data):
    axis = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    array = np.arange(np.prod(shape)).reshape(shape)
    kept = tuple(sorted(axis))
    canonical = to_canonical(array, kept)
    assert np.array_equal(from_canonical(canonical, shape, kept), array)


def test_non_finite_weights_name_where_and_how_many():
    weights = normal(4, 3)
    weights[1, 2] = np.nan
    weights[3, 0] = -np.inf
    with pytest.raises(
        NonFiniteError, match=r"dense/kernel.*Received: 2 .*\(1, 2\)"
    ):
        AbsMaxQuantizer().encode(weights, axis=1, name="dense/kernel")
    with pytest.raises(NonFiniteError, match=r"the array.*Received: 1 "):
        AbsMaxQuantizer().encode(np.array([1e300]))


@pytest.mark.parametrize("bits", [0, 9, 15, 17, -1, 4.0, True, "4", None])
def test_bits_out_of_range(bits):
    with pytest.raises(SqueezeError, match=r"1 to 8.*Received: bits="):
        AbsMaxQuantizer(bits=bits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"granularity": "per_row"}, "per_channel.*Received: granularity="),
        ({"group_size": 4}, "per_group.*Received: group_size=4"),
        ({"granularity": "per_group"}, "Received: group_size=None"),
        (
            {"granularity": "per_group", "group_size": 0},
            "positive integer.*Received: group_size=0",
        ),
    ],
)
def test_granularity_out_of_range(arguments, message):
    with pytest.raises(SqueezeError, match=message):
        MeanSquaredErrorQuantizer(**arguments)


def test_axis_outside_the_array():
    with pytest.raises(SqueezeError, match=r"2 dimensions.*Received: axis=2"):
        AbsMaxQuantizer().encode(normal(2, 2), axis=2)


def test_scales_that_do_not_fit_the_codes():
    with pytest.raises(SqueezeError, match=r"\(3, 1\).*Received: \(2, 1\)"):
        QuantizedTensor(
            np.zeros((2, 3), np.int8), np.ones((2, 1), np.float32), 8, (1,)
        )


def test_get_by_name_config_and_object():
    quantizer = quantizers.get("absmax", bits=3)
    assert quantizer == AbsMaxQuantizer(bits=3)
    assert quantizers.get(quantizer.get_config(), bits=8) == quantizer
    assert quantizers.get(quantizer, bits=8) is quantizer
    assert eval(repr(quantizer)) == quantizer
    assert quantizer != MeanSquaredErrorQuantizer(bits=3)
    assert hash(quantizer) == hash(AbsMaxQuantizer(bits=3))


@pytest.mark.parametrize("identifier", ["nothing", {"bits": 4}, 7, None])
def test_get_unknown(identifier):
    with pytest.raises(UnknownIdentifierError, match=r"absmax.*Received"):
        quantizers.get(identifier)


def test_get_with_an_argument_too_many():
    with pytest.raises(UnknownIdentifierError, match=r"does not take"):
        quantizers.get("absmax", bit=4)


def test_a_quantizer_of_ones_own_can_be_registered(monkeypatch):
    monkeypatch.setattr(
        quantizers.registry, "_factories", dict(quantizers.registry._factories)
    )

    @quantizers.register
    class Halved(AbsMaxQuantizer):
        id = "halved"

        def choose_scale(self, blocks, counts):
            return super().choose_scale(blocks, counts) / np.float32(2)

    assert isinstance(quantizers.get("halved"), Quantizer)
    check_quantizer(quantizers.get("halved", bits=4))


def test_storage_width_divides_a_byte():
    assert [storage_width(bits) for bits in range(1, 9)] == [
        *(1, 2, 4, 4),
        *(8, 8, 8, 8),
    ]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 70), st.data())
def test_packing_round_trips(width, count, data):
    half = 2 ** (width - 1)
    codes = (
        st.sampled_from([-1, 1]) if width == 1 else st.integers(-half, half - 1)
    )
    array = data.draw(hnp.arrays(np.int8, count, elements=codes))
    packed = pack_codes(array, width)
    assert packed.dtype == np.uint8
    assert packed.size == -(-count * width // 8)
    assert np.array_equal(unpack_codes(packed, width, count), array)


def test_packed_bytes_are_planes():
    codes = np.array([1, 2, 3, -1, -2], np.int8)
    assert pack_codes(codes, 4).tolist() == [0xF1, 0xE2, 0x03]
    assert pack_codes(np.zeros(9, np.int8), 2).tolist() == [0, 0, 0]
    assert pack_codes(np.array([1, -1, 1]), 1).tolist() == [0b010]


def test_packing_refuses_what_does_not_fit():
    with pytest.raises(SqueezeError, match=r"4 bits.*Received: codes from -9"):
        pack_codes(np.array([-9, 0]), 4)
    with pytest.raises(SqueezeError, match=r"-1 or \+1.*Received"):
        pack_codes(np.array([0, 1]), 1)
    with pytest.raises(SqueezeError, match=r"Received: width=3"):
        pack_codes(np.array([0, 1]), 3)
    with pytest.raises(SqueezeError, match=r"Expected 2 bytes for 3 codes"):
        unpack_codes(np.zeros(3, np.uint8), 4, 3)
