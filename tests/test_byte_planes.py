import numpy as np
import pytest

from keras_squeeze.codecs import BytePlanes, dtype_from_name
from keras_squeeze.codecs.dtypes import DTYPE_NAMES, bit_patterns
from keras_squeeze.errors import CorruptArtifactError

FLOATS = [n for n in DTYPE_NAMES if "float" in n or "complex" in n]
PLANES = BytePlanes()


def weights(count, seed=0):
    return np.random.default_rng(seed).normal(0, 0.05, count).astype("float32")


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("count", [1, 2, 10, 65, 500, 3000])
def test_never_much_larger_than_raw(name, count):
    dtype = dtype_from_name(name)
    noise = np.random.default_rng(count).bytes(count * dtype.itemsize)
    array = np.frombuffer(noise, dtype)
    data = PLANES.encode(array)
    assert len(data) <= array.nbytes + 3
    out = PLANES.decode(data, array.shape, dtype)
    assert (bit_patterns(out) == bit_patterns(array)).all()


def test_special_values_keep_their_bits():
    bits = np.array(
        [0, 0x80000000, 0x7FC00000, 0x7F800001, 0xFFC12345, 1, 0x807FFFFF],
        "uint32",
    )
    array = np.tile(bits, 30).view("float32")
    out = PLANES.decode(PLANES.encode(array), array.shape, "float32")
    assert (out.view("uint32") == array.view("uint32")).all()


@pytest.mark.parametrize(
    ("dtype", "share"),
    [("float32", 0.85), ("bfloat16", 0.7), ("float16", 0.88)],
)
def test_trained_weights_shrink(dtype, share):
    array = weights(40_000).astype(dtype_from_name(dtype))
    assert len(PLANES.encode(array)) < share * array.nbytes


@pytest.mark.parametrize("count", [16, 64, 500])
@pytest.mark.parametrize("signed", [False, True])
def test_rounded_float32_takes_half(count, signed):
    scales = np.abs(weights(count)) if not signed else weights(count)
    rounded = scales.astype(dtype_from_name("bfloat16")).astype("float32")
    header_and_sign_plane = 5 + (count // 8 + 8 if signed else 0)
    expected = rounded.nbytes / 2 + header_and_sign_plane
    assert len(PLANES.encode(rounded)) <= expected


def test_the_documented_layout():
    # 1.0 and 2.0 rotated: exponents 7f and 80, then zeros. Plane tags: raw,
    # constant, constant, constant.
    array = np.array([1.0, 2.0], "float32")
    expected = bytes.fromhex("01547f80000000")
    assert (PLANES.decode(expected, (2,), "float32") == array).all()
    assert len(PLANES.encode(array)) == len(expected)
    plain = bytes.fromhex("00503f4080000000")
    assert (PLANES.decode(plain, (2,), "float32") == array).all()


def test_coded_planes_carry_their_length_unless_they_are_last():
    sign = np.where(np.arange(900) % 7, 1.0, -1.0).astype("float16")
    data = PLANES.encode(sign)
    assert len(data) < 200
    assert (PLANES.decode(data, (900,), "float16") == sign).all()


@pytest.mark.parametrize(
    ("data", "dtype", "message"),
    [
        ("", "float32", "more bytes"),
        ("025500000000", "float32", "at most 1"),
        ("0055000000", "float32", "more bytes"),
        ("00550000000000", "float32", "trailing"),
        ("00150000", "float16", "tags of 2 planes"),
        ("0002090000", "float32", "at most 3"),
        ("000300000000", "float32", "more bytes"),
        ("005500000000", "int32", "a floating point dtype"),
    ],
)
def test_hostile_bytes_are_named(data, dtype, message):
    with pytest.raises(CorruptArtifactError, match=message):
        PLANES.decode(bytes.fromhex(data), (2,), dtype)


def test_a_batch_decodes_as_each_one_alone():
    arrays = [weights(n, n) for n in (1, 0, 40, 3000, 20_000)]
    arrays.append(weights(64).astype("float64").reshape(8, 8))
    items = [(PLANES.encode(a), a.shape, a.dtype) for a in arrays]
    for out, array in zip(PLANES.decode_many(items), arrays, strict=True):
        assert out.dtype == array.dtype and (out == array).all()
