import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze.codecs import Rans
from keras_squeeze.codecs.rans import entropy_bits, lane_count
from keras_squeeze.errors import CorruptArtifactError

RANS = Rans()


def round_trip(array):
    data = RANS.encode(array)
    out = RANS.decode(data, array.shape, array.dtype)
    assert out.dtype == array.dtype and (out == array).all()
    return data


def entropy_bytes(array):
    return entropy_bits(np.unique(array, return_counts=True)[1]) / 8


def codes(count, zeros, seed=0):
    """4-bit codes of a pruned, Laplacian tensor."""
    rng = np.random.default_rng(seed)
    out = rng.laplace(0, 2.2, count).round().clip(-7, 7).astype("int8")
    out[rng.random(count) < zeros] = 0
    return out


@pytest.mark.parametrize("alphabet", [1, 2, 3, 15, 256, 4095, 4096])
@pytest.mark.parametrize("count", [1, 2, 31, 5000])
def test_alphabets_of_every_size(alphabet, count):
    rng = np.random.default_rng(alphabet)
    values = rng.integers(-2000, -2000 + alphabet, count).astype("int16")
    values[0], values[-1] = -2000, -2001 + alphabet
    round_trip(values)


@pytest.mark.parametrize("count", range(1, 9))
def test_every_short_sequence_of_two_symbols(count):
    for bits in itertools.product((0, 1), repeat=count):
        round_trip(np.array(bits, bool))


def test_every_small_distribution_of_two_symbols():
    for ones, zeros in itertools.product(range(1, 14), repeat=2):
        round_trip(np.array([1] * ones + [0] * zeros, "int8"))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int8", "uint8"])
def test_the_ends_of_the_dtype(dtype):
    info = np.iinfo(dtype)
    ends = np.array([info.min, info.min + 1, info.max, info.max - 1], dtype)
    assert RANS.supports(ends[:2]) and RANS.supports(ends[2:])
    round_trip(ends[:2])
    round_trip(ends[2:])
    if ends.itemsize > 1:
        assert not RANS.supports(ends)


def test_wide_ranges_and_floats_are_not_supported():
    assert not RANS.supports(np.array([0, 4096], "int16"))
    assert RANS.supports(np.array([0, 4095], "int16"))
    assert not RANS.supports(np.zeros(3, "float32"))
    assert not RANS.supports(np.array(["a"]))


@pytest.mark.parametrize("zeros", [0.0, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("count", [1000, 10_000, 400_000])
def test_codes_come_close_to_their_entropy(zeros, count):
    array = codes(count, zeros)
    assert len(round_trip(array)) <= 1.025 * entropy_bytes(array) + 40


def test_dense_integers_come_close_to_their_entropy():
    rng = np.random.default_rng(3)
    array = rng.normal(0, 35, 300_000).round().clip(-127, 127).astype("int8")
    assert len(round_trip(array)) <= 1.006 * entropy_bytes(array) + 200


@pytest.mark.parametrize("zeros", [0.97, 0.99, 0.999])
def test_skewed_tensors_lose_little_but_the_lanes(zeros):
    array = codes(4096, zeros)
    array[:15] = np.arange(15) - 7
    # One lane: what is left of the overhead is table and state.
    assert len(round_trip(array)) <= 1.02 * entropy_bytes(array) + 40


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=300),
    st.integers(-(2**31), 2**31 - 41),
)
def test_any_small_array(values, low):
    round_trip(np.array(values, "int64") + low)


def test_a_batch_decodes_as_each_one_alone():
    rng = np.random.default_rng(5)
    sizes = [1, 7, 0, 300, 2049, 5000, 5000, 70_000, 40, 4096]
    arrays = [codes(n, rng.random(), n).reshape(1, n) for n in sizes]
    arrays.append(np.full((3, 4), 9, "uint16"))
    arrays.append(rng.integers(0, 4096, (90, 50)).astype("int32"))
    items = [(RANS.encode(a), a.shape, a.dtype) for a in arrays]
    for out, array, item in zip(
        RANS.decode_many(items), arrays, items, strict=True
    ):
        assert out.dtype == array.dtype and (out == array).all()
        assert (RANS.decode(*item) == array).all()
    assert RANS.decode_many([]) == []


def test_a_damaged_neighbour_spoils_the_batch_and_nothing_else():
    good, bad = codes(3000, 0.5), codes(3000, 0.5, seed=1)
    damaged = bytearray(RANS.encode(bad))
    damaged[-3] ^= 4
    item = (RANS.encode(good), good.shape, good.dtype)
    with pytest.raises(CorruptArtifactError, match="every lane"):
        RANS.decode_many([item, (bytes(damaged), bad.shape, bad.dtype)])
    assert (RANS.decode(*item) == good).all()


def test_most_flipped_bits_are_found():
    array = codes(250, 0.3)
    data = RANS.encode(array)
    # The first five bytes say which values the symbols stand for; further on
    # a flip can swap two symbols of the same frequency and leave no trace.
    missed, places = 0, range(5 * 8, len(data) * 8, 3)
    for place in places:
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        try:
            RANS.decode(bytes(damaged), array.shape, array.dtype)
        except CorruptArtifactError:
            continue
        missed += 1
    assert missed < 0.06 * len(places)


def test_the_documented_layout():
    # 5 zeros and a one: precision 4, frequencies 13 and 3, mode 0, one lane;
    # bit length 2 is 4 zigzag mapped, 00001 in unary; then the low bit of 3.
    data = RANS.encode(np.array([0, 0, 0, 1, 0, 0], "int8"))
    assert data[:6].hex() == "03000100000c"
    x = int.from_bytes(data[6:10], "little")
    words = data[10:]
    out = []
    for _ in range(6):
        slot, symbol = x % 16, int(x % 16 >= 13)
        start, frequency = (13, 3) if symbol else (0, 13)
        x = frequency * (x // 16) + slot - start
        if x < 1 << 16:
            x = x << 16 | int.from_bytes(words[:2], "little")
            words = words[2:]
        out.append(symbol)
    assert out == [0, 0, 0, 1, 0, 0] and x == 1 << 16 and not words


def test_one_symbol_is_a_header():
    assert RANS.encode(np.full((50, 50), -3, "int8")).hex() == "000500"
    assert RANS.encode(np.zeros(0, "int8")) == b""


@pytest.mark.parametrize(
    ("data", "count", "message"),
    [
        ("", 5, "more bytes"),
        ("00", 0, "trailing"),
        ("0f0001000000", 5, "precision of at most 8"),
        ("02000000", 5, "precision of at most"),
        ("03900301", 5, "integer in -128..127"),
        ("03000203", 5, "at most 2"),
        ("0300010005", 5, "at most 4"),
        ("030001000000", 5, "frequencies"),
        ("03000100000cffff0000", 5, "states"),
        ("03000100000c0000010000", 5, "16-bit"),
        ("03000100000c000001000000", 5, "every lane"),
        ("03000100000c00000100", 4097, "lanes of at most 4096"),
        ("03000100040c00000100", 5, "20 more bytes"),
    ],
)
def test_hostile_headers_are_named(data, count, message):
    with pytest.raises(CorruptArtifactError, match=message):
        RANS.decode(bytes.fromhex(data), (count,), "int8")


def test_a_huge_declared_shape_asks_for_no_memory():
    data = RANS.encode(codes(3000, 0.5))
    with pytest.raises(CorruptArtifactError):
        RANS.decode(data, (1 << 45,), "int8")


def test_lanes_grow_with_size_and_shrink_with_entropy():
    assert lane_count(1, 3) == lane_count(1024, 3) == 1
    assert lane_count(1536, 0.01) == 1
    assert lane_count(10_000_000, 4) > lane_count(10_000_000, 0.7)
    for count in (3000, 100_000, 7_000_000):
        assert -(-count // lane_count(count, 0.001)) <= 1536


def test_the_size_hint_is_no_more_than_the_size():
    for array in (codes(9, 0.2), codes(5000, 0.9), codes(90_000, 0.4)):
        assert 0 < RANS.size_hint(array) <= len(RANS.encode(array))
