import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze.codecs import BytePlanes, dtype_from_name
from keras_squeeze.codecs.dtypes import DTYPE_NAMES, bit_patterns
from keras_squeeze.codecs.float_fields import FloatFields
from keras_squeeze.codecs.rans import Rans
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.testing import check_codec

FLOATS = [n for n in DTYPE_NAMES if "float" in n or "complex" in n]
FIELDS = FloatFields()


def size(array):
    """The bytes of an array, after a round trip."""
    data = FIELDS.encode(array)
    out = FIELDS.decode(data, array.shape, array.dtype)
    assert out.dtype == array.dtype and out.shape == array.shape
    assert (bit_patterns(out) == bit_patterns(array)).all()
    return len(data)


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype("float32")


def test_keeps_the_contract_of_codecs():
    check_codec(FIELDS)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("count", [1, 2, 10, 65, 500, 3000])
def test_never_much_larger_than_raw(name, count):
    dtype = dtype_from_name(name)
    noise = np.random.default_rng(count).bytes(count * dtype.itemsize)
    array = np.frombuffer(noise, dtype)
    assert size(array) <= array.nbytes + 1


def test_special_values_keep_their_bits():
    bits = [0, 0x80000000, 0x7FC00000, 0x7F800001, 0xFFC12345, 1, 0x807FFFFF]
    for count in (1, 30, 300):
        array = np.tile(np.array(bits, "uint32"), count).view("float32")
        assert size(array) < 60 + 0.4 * array.size
        among = weights(60, 50)
        among[:7, 0] = array[:7]
        assert size(among) < 0.86 * among.nbytes


@pytest.mark.parametrize(
    ("dtype", "share"),
    [("float32", 0.84), ("bfloat16", 0.68), ("float16", 0.86), ("float64", 1)],
)
def test_trained_weights_shrink(dtype, share):
    array = weights(200, 200).astype(dtype_from_name(dtype))
    assert size(array) < share * array.nbytes
    assert size(array) < len(BytePlanes().encode(array))


def test_scales_of_rows_and_columns_are_used():
    rng = np.random.default_rng(1)
    rows, columns = np.exp2(rng.integers(-6, 7, (2, 256)))
    plain = weights(256, 256)
    scaled = (plain * rows[:, None] * columns).astype("float32")
    # The scales are powers of two: only exponents change, and are given back.
    assert size(scaled) < size(plain) + 1000
    shuffled = rng.permutation(scaled.reshape(-1)).reshape(256, 256)
    assert size(shuffled) > size(scaled) + 5000


def test_neighbours_along_an_axis_are_used():
    rng = np.random.default_rng(2)
    steps = rng.normal(0, 0.2, (100, 200))
    smooth = (1 + np.cumsum(steps, axis=1)).astype("float32")
    rows = smooth[:, rng.permutation(200)]
    assert size(smooth) < 0.99 * size(rows)
    assert size(smooth.T.copy()) < 1.002 * size(smooth)


def test_zeros_of_pruned_weights_cost_next_to_nothing():
    array = weights(200, 200)
    array[np.random.default_rng(0).random(array.shape) < 0.9] = 0
    kept = np.count_nonzero(array)
    significance = 40_000 * 0.469 / 8
    assert size(array) < 1.02 * (significance + kept * 26.6 / 8)


def test_masked_weights_have_negative_zeros():
    array = weights(200, 200)
    mask = np.random.default_rng(0).random(array.shape) < 0.1
    assert np.signbit((array * mask)[~mask]).any()
    assert size(array * mask) < size(np.abs(array * mask)) + 40_000 / 8 + 50


@pytest.mark.parametrize("through", ["bfloat16", "float16"])
def test_rounded_float32_costs_what_the_narrow_dtype_does(through):
    narrow = weights(150, 150).astype(dtype_from_name(through))
    assert size(narrow.astype("float32")) < size(narrow) + 60


def test_multiples_of_a_step_cost_what_their_factors_do():
    codes = np.random.default_rng(0).normal(0, 30, (150, 150)).round()
    codes = codes.clip(-127, 127).astype("int8")
    grid = codes.astype("float32") * np.float32(0.0123)
    assert size(grid) < 1.01 * len(Rans().encode(codes)) + 60
    with_negative_zeros = np.where(codes == 0, np.float32(-0.0), grid)
    assert abs(size(with_negative_zeros) - size(grid)) < 8


def test_values_of_a_codebook_are_stored_once():
    codebook = weights(16)
    chosen = np.random.default_rng(0).integers(0, 16, (100, 100))
    assert size(codebook[chosen]) < 100 * 100 / 2 + 64 + 60
    half = codebook.astype("float16")
    assert size(half[chosen]) < 100 * 100 / 2 + 32 + 60


def test_rows_on_a_coarser_grid_are_noticed():
    fresh = np.random.default_rng(0).integers(-(2**20), 2**20, (50, 99))
    fine = weights(50, 99)
    mixed = np.concatenate([fresh / 2.0**25, fine]).astype("float32")
    alone = size((fresh / 2.0**25).astype("float32"))
    assert alone < 0.7 * fresh.size * 4
    assert size(mixed) < alone + size(fine) + 300


def test_complex_numbers_are_pairs():
    pairs = weights(60, 70, 2)
    assert size(pairs.view("complex64")[..., 0]) <= size(pairs) + 2


def test_a_batch_decodes_as_each_one_alone():
    arrays = [weights(n, 3, seed=n) for n in (1, 0, 40, 3000)]
    arrays += [np.zeros((4, 4), "float16"), weights(64).astype("float64")]
    arrays += [np.array(1.5, "float32"), np.tile(weights(9), 200)]
    items = [(FIELDS.encode(a), a.shape, a.dtype) for a in arrays]
    for out, array in zip(FIELDS.decode_many(items), arrays, strict=True):
        assert out.dtype == array.dtype and (out == array).all()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FLOATS),
    st.lists(st.integers(1, 9), min_size=0, max_size=4),
    st.integers(0, 2**32 - 1),
    st.integers(0, 8),
)
def test_any_bits_of_any_shape_come_back(name, shape, seed, zero_bits):
    dtype = dtype_from_name(name)
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape, dtype=int))
    raw = np.frombuffer(rng.bytes(count * dtype.itemsize), "uint8")
    array = (raw >> zero_bits << zero_bits).view(dtype).reshape(shape)
    size(array)


def test_the_documented_layout_of_fields():
    # kept 1, signed; heads of 1.0, 1.5, 2.0: 254, 255, 256; trim 22.
    array = np.array([1.0, -1.5, 2.0, 0.0], "float32")
    symbols = np.array([2, 5, 6, 0], "uint16")
    coded = Rans().encode(symbols)
    data = bytes.fromhex("0111fe01160000") + bytes([len(coded)])
    data += coded
    assert (FIELDS.decode(data, (4,), "float32") == array).all()
    # kept 0, sign in the tail: 1 bit of sign and 1 of mantissa for each value
    # but zero, which has the sign only.
    coded = Rans().encode(np.array([1, 1, 2, 0], "uint16"))
    data = bytes.fromhex("01007f160000") + bytes([len(coded)])
    data += coded + bytes([0b00000000, 0b00110000])
    assert (FIELDS.decode(data, (4,), "float32") == array).all()


def test_the_documented_layout_of_a_palette():
    # The step 0.5, factors -1, 0 and 2, and negative zero.
    symbols = np.array([0, 1, 2, 3], "uint16")
    coded = Rans().encode(symbols)
    palette = bytes.fromhex("03030000003f01") + bytes.fromhex("02000001")
    data = b"\2\0" + palette + b"\0" + bytes([len(coded)]) + coded
    out = FIELDS.decode(data, (4,), "float32")
    assert out.tolist() == [0.0, 1.0, -0.0, -0.5]
    assert np.signbit(out).tolist() == [False, False, True, True]
    plain = bytes.fromhex("00000000c03f")
    data = b"\2\0" + plain + b"\0" + bytes.fromhex("03000000")
    assert FIELDS.decode(data, (2,), "float32").tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "more bytes"),
        ("03", "at most 2"),
        ("0000", "bytes"),
        ("0180", "flags and mantissa bits"),
        ("0105", "flags and mantissa bits"),
        ("0104ffff7f", "an integer of at most"),
        ("01007f18", "at most 23"),
        ("01007f008120", "at most 4096"),
        ("01007f00ffff", "more bytes"),
        ("01407f0000000104", "at most 3"),
        ("01007f000004", "at most 3"),
        ("01007f0000030200ffff0200ffff", "fewer than 256 classes"),
        ("01207f00000002", "at most 1"),
        ("01207f00000001", "more bytes"),
        ("01207f0000000100020200", "ascending edges"),
        ("01007f1600000400900300", "symbols below"),
        ("0220", "more bytes"),
        ("0210", "the flags of a palette"),
        ("02000104", "at most 3"),
        ("020001020000", "a kind of palette"),
        ("02000000", "more bytes"),
        ("020001000000000000000000", "values that ascend"),
    ],
)
def test_hostile_bytes_are_named(data, message):
    with pytest.raises(CorruptArtifactError, match=message):
        FIELDS.decode(bytes.fromhex(data), (2, 2), "float32")


def test_random_damage_is_an_error_or_other_values():
    rng = np.random.default_rng(3)
    steps = np.cumsum(rng.normal(0, 1, (40, 60)), axis=1).astype("float32")
    for array in (steps, weights(700), steps.round().astype("float16")):
        data = bytearray(FIELDS.encode(array))
        for place in rng.integers(0, min(len(data), 200), 150).tolist():
            damaged = bytes(data[:place]) + rng.bytes(1) + data[place + 1 :]
            try:
                out = FIELDS.decode(damaged, array.shape, array.dtype)
            except SqueezeError:
                continue
            assert out.shape == array.shape


def test_integers_are_refused():
    assert not FIELDS.supports(np.arange(3))
    with pytest.raises(CorruptArtifactError, match="floating point dtype"):
        FIELDS.decode(b"\0", (1,), "int8")
