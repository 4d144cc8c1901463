import numpy as np
import pytest

from keras_squeeze.codecs import Raw
from keras_squeeze.errors import CorruptArtifactError


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[1, -2]], "int16"), "0100feff"),
        (np.array([1.0], ">f4"), "0000803f"),
        (np.array([1 + 2j], "complex64"), "0000803f00000040"),
        (np.array([True, False]), "0100"),
        (np.array(7, "uint8"), "07"),
        (np.asfortranarray(np.array([[1, 2], [3, 4]], "int8")), "01020304"),
    ],
)
def test_the_documented_layout(array, expected):
    assert Raw().encode(array).hex() == expected
    assert Raw().size_hint(array) == len(expected) // 2


def test_a_wrong_length_is_named():
    with pytest.raises(CorruptArtifactError, match=r"8 bytes.*Received: 7"):
        Raw().decode(bytes(7), (2,), "float32")


def test_booleans_are_0_or_1():
    with pytest.raises(CorruptArtifactError, match="booleans"):
        Raw().decode(b"\1\2", (2,), "bool")


def test_the_result_does_not_share_memory_with_the_data():
    data = bytearray(4)
    out = Raw().decode(data, (4,), "uint8")
    data[0] = 9
    assert out[0] == 0
