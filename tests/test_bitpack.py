import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_squeeze.codecs import Bitpack
from keras_squeeze.codecs.bitpack import add_offset, subtract_offset
from keras_squeeze.codecs.dtypes import integer_range
from keras_squeeze.errors import CorruptArtifactError


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([-2, 1, 0, -1], "int8"), "020339"),
        (np.array([5, 5, 5], "int64"), "000a"),
        (np.array([True, False, True]), "0100a0"),
        (np.array([], "int8"), ""),
        (np.array([-128, 127], "int8"), "08ff0100ff"),
    ],
)
def test_the_documented_layout(array, expected):
    assert Bitpack().encode(array).hex() == expected
    out = Bitpack().decode(bytes.fromhex(expected), array.shape, array.dtype)
    assert (out == array).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "uint64"])
def test_the_whole_range_of_a_dtype(dtype):
    low, high = integer_range(np.dtype(dtype))
    array = np.array([low, high, low + 1, 0, high - 1], dtype)
    data = Bitpack().encode(array)
    assert (Bitpack().decode(data, (5,), dtype) == array).all()
    assert data[0] == 8 * array.itemsize


@pytest.mark.parametrize("width", [1, 3, 5, 12, 17, 33])
def test_sizes_are_as_promised(width):
    array = np.arange(70_000) % (1 << min(width, 16))
    array[0] = (1 << width) - 1
    data = Bitpack().encode(array)
    assert (
        len(data) == Bitpack().size_hint(array) == 2 + -(-70_000 * width // 8)
    )
    assert (Bitpack().decode(data, (70_000,), "int64") == array).all()


@pytest.mark.parametrize(
    ("data", "dtype", "message"),
    [
        ("", "int8", "more bytes"),
        ("09000000", "int8", "a width that fits"),
        ("02800200", "int8", "integer in"),
        ("02fc01c0", "int8", "values of at most 127"),
        ("020001", "int8", "zero bits"),
        ("02000000", "int8", "trailing"),
        ("02800000", "int8", "shortest varint"),
        ("020000", "float32", "an integer dtype"),
        ("0200c0", "bool", "values of at most 1"),
    ],
)
def test_hostile_bytes_are_named(data, dtype, message):
    with pytest.raises(CorruptArtifactError, match=message):
        Bitpack().decode(bytes.fromhex(data), (3,), dtype)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_offsets_never_overflow(values):
    array = np.array(values, "int64")
    low = int(array.min())
    offsets = subtract_offset(array, low)
    assert [int(v) for v in offsets] == [v - low for v in values]
    assert (add_offset(offsets, low, array.dtype) == array).all()
