import numpy as np
import pytest

from keras_squeeze.codecs import Rans, Sparse, dtype_from_name
from keras_squeeze.codecs.rans import entropy_bits
from keras_squeeze.errors import CorruptArtifactError

SPARSE = Sparse()


def round_trip(array):
    data = SPARSE.encode(array)
    out = SPARSE.decode(data, array.shape, array.dtype)
    assert out.dtype == array.dtype and out.shape == array.shape
    assert out.tobytes() == np.ascontiguousarray(array).tobytes()
    return data


def pruned(count, zeros, dtype="int8", seed=0):
    rng = np.random.default_rng(seed)
    out = rng.laplace(0, 2.2, count).round().clip(-7, 7).astype(dtype)
    out[rng.random(count) < zeros] = 0
    return out


@pytest.mark.parametrize("zeros", [0.95, 0.99, 0.999, 0.9999])
def test_close_to_the_entropy_where_almost_all_is_zero(zeros):
    array = pruned(400_000, zeros)
    counts = np.unique(array, return_counts=True)[1]
    data = round_trip(array)
    assert len(data) <= 1.02 * entropy_bits(counts) / 8 + 40
    assert len(data) < len(Rans().encode(array))


def test_pruned_floats_pay_once_for_their_zeros():
    array = np.random.default_rng(0).normal(0, 1, 50_000).astype("float32")
    array[np.random.default_rng(1).random(50_000) < 0.9] = 0
    kept = np.count_nonzero(array)
    entropy_of_mask = 50_000 * 0.469 / 8
    assert len(round_trip(array)) < 3.5 * kept + 1.03 * entropy_of_mask


def test_the_fill_is_the_most_frequent_value_not_only_zero():
    array = np.full(1000, -5, "int16")
    array[::100] = 3
    assert len(round_trip(array)) < 30


def test_negative_zero_is_no_zero():
    array = np.zeros(100, "float32")
    array[7] = -0.0
    assert len(round_trip(array)) < 12


@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "uint64", "float64"])
def test_other_dtypes(dtype):
    array = (np.arange(900) % 31 == 4).astype(dtype_from_name(dtype))
    assert SPARSE.supports(array)
    round_trip(array.reshape(30, 30))
    round_trip(array[:0])
    round_trip(array[:1])


def test_complex_is_not_supported():
    assert not SPARSE.supports(np.zeros(3, "complex64"))
    with pytest.raises(CorruptArtifactError, match="a real dtype"):
        SPARSE.decode(b"\0\0", (3,), "complex64")


def test_the_documented_layout():
    # Fill 0, two others, parameter 1: gaps 3 and 4 have low bits 1 and 0 and
    # the rest 1 and 2 in unary, 01 001; the values are raw.
    expected = bytes.fromhex("0002018048000907")
    array = np.array([0, 0, 0, 9, 0, 0, 0, 0, 7, 0], "int8")
    assert (SPARSE.decode(expected, (10,), "int8") == array).all()
    assert SPARSE.encode(np.zeros(9, "int8")).hex() == "0000"


@pytest.mark.parametrize(
    ("data", "dtype", "message"),
    [
        ("", "int8", "more bytes"),
        ("800200", "int8", "at most 255"),
        ("0200", "bool", "at most 1"),
        ("000b", "int8", "at most 5"),
        ("000000", "int8", "trailing"),
        ("000231", "int8", "at most 48"),
        ("0002018148000907", "int8", "zero bits"),
        ("0002018049000907", "int8", "zero bits"),
        ("0002018044000907", "int8", "positions below 10"),
        ("0002000000", "int8", "2 positions"),
        ("0002018048050907", "int8", "tag of a codec"),
        ("00020180480009", "int8", "2 bytes"),
    ],
)
def test_hostile_bytes_are_named(data, dtype, message):
    with pytest.raises(CorruptArtifactError, match=message):
        SPARSE.decode(bytes.fromhex(data), (10,), dtype)


def test_gaps_beyond_64_bits_are_refused():
    huge = "000330" + "ff" * 18 + "e0" + "00010203"
    with pytest.raises(CorruptArtifactError, match="positions below 10"):
        SPARSE.decode(bytes.fromhex(huge), (10,), "int8")


def test_the_size_hint_is_no_more_than_the_size():
    for zeros in (0.6, 0.9, 0.999):
        for dtype in ("int8", "float32"):
            array = pruned(30_000, zeros, dtype)
            assert SPARSE.size_hint(array) <= len(SPARSE.encode(array))


def test_dense_arrays_are_not_supported():
    assert SPARSE.supports(np.array([0, 1], "int8"))
    assert not SPARSE.supports(np.array([0, 1, 2], "int8"))
    assert not SPARSE.supports(np.array([1.0, 1.0, 0.0], "float32"))


def test_a_batch_decodes_as_each_one_alone():
    arrays = [pruned(n, 0.9, seed=n) for n in (1, 30, 0, 5000, 20_000)]
    items = [(SPARSE.encode(a), a.shape, a.dtype) for a in arrays]
    for out, array in zip(SPARSE.decode_many(items), arrays, strict=True):
        assert (out == array).all()
