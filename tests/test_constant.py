import numpy as np
import pytest

from keras_squeeze.codecs import Constant
from keras_squeeze.errors import CorruptArtifactError


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((7, 7)), ""),
        (np.full(9, 258, "int32"), "0201"),
        (np.full(9, -1, "int16"), "ffff"),
        (np.full((2, 3), 1.0, "float32"), "0000803f"),
        (np.full(3, 1j, "complex64"), "000000000000803f"),
        (np.full(3, True), "01"),
    ],
)
def test_the_documented_layout(array, expected):
    assert Constant().supports(array)
    assert Constant().encode(array).hex() == expected
    out = Constant().decode(bytes.fromhex(expected), array.shape, array.dtype)
    assert (out == array).all()


def test_equal_is_meant_bit_for_bit():
    assert not Constant().supports(np.array([0.0, -0.0]))
    assert Constant().supports(np.full(20, np.nan))
    late = np.zeros(100, "complex64")
    late[99] = 1j
    assert not Constant().supports(late)


@pytest.mark.parametrize(
    ("data", "shape", "dtype"),
    [
        (b"\1\0", (3,), "int16"),
        (b"\1\2\3", (3,), "int16"),
        (b"\1", (0,), "int16"),
        (b"\2", (3,), "bool"),
    ],
)
def test_other_bytes_are_refused(data, shape, dtype):
    with pytest.raises(CorruptArtifactError, match="Received"):
        Constant().decode(data, shape, dtype)
