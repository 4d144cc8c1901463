import numpy as np
import pytest

from keras_squeeze.codecs import dtypes
from keras_squeeze.errors import CorruptArtifactError, SqueezeError


@pytest.mark.parametrize("name", dtypes.DTYPE_NAMES)
def test_names_survive(name):
    dtype = dtypes.dtype_from_name(name)
    assert dtype.name == name and dtype.isnative
    assert dtypes.dtype_from_name(dtype) == dtype
    assert dtypes.is_supported(dtype)


@pytest.mark.parametrize("name", ["object", "str", "datetime64", "nope", "V3"])
def test_other_names_are_refused(name):
    with pytest.raises(SqueezeError, match=f"Received: '{name}'"):
        dtypes.dtype_from_name(name)


def test_kinds():
    kinds = {
        name: (dtypes.is_integer(d), dtypes.is_float(d))
        for name in dtypes.DTYPE_NAMES
        for d in [dtypes.dtype_from_name(name)]
    }
    assert kinds["bool"] == kinds["uint64"] == (True, False)
    assert kinds["bfloat16"] == kinds["float8_e5m2"] == (False, True)
    assert kinds["complex64"] == (False, False)


def test_bit_patterns_ignore_memory_and_byte_order():
    array = np.arange(6, dtype="float32").reshape(2, 3)
    expected = array.reshape(-1).view("uint32")
    for other in (
        np.asfortranarray(array),
        array.astype(">f4"),
        np.repeat(array, 2, axis=1)[:, ::2],
    ):
        assert (dtypes.bit_patterns(other) == expected).all()
    assert dtypes.bit_patterns(np.array(1 + 1j)).size == 2


def test_element_count():
    assert dtypes.element_count((), np.dtype("int8")) == 1
    assert dtypes.element_count((3, 0), np.dtype("int8")) == 0
    assert dtypes.element_count((np.int64(3), 2), np.dtype("int8")) == 6
    for shape in [(-1,), (1.0,), (True,), (1 << 60,), ("3",)]:
        with pytest.raises(CorruptArtifactError, match="Received: shape="):
            dtypes.element_count(shape, np.dtype("int8"))
