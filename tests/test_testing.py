"""`check_codec` finds the ways in which codecs go wrong."""

import numpy as np
import pytest

from keras_squeeze.codecs import Codec, Raw
from keras_squeeze.testing import check_codec, sample_arrays


class Xor(Codec):
    """A good plug-in codec, with a parameter."""

    id = "xor"

    def __init__(self, key=90):
        self.key = key

    def get_config(self):
        return {**super().get_config(), "key": self.key}

    def _mix(self, data):
        return bytes(byte ^ self.key for byte in bytes(data))

    def encode(self, array):
        return self._mix(Raw().encode(array))

    def decode(self, data, shape, dtype):
        return Raw().decode(self._mix(data), shape, dtype)


class LosesSign(Xor):
    def encode(self, array):
        return super().encode(np.where(array == 0, np.abs(array), array))


class ReadOnly(Xor):
    def decode(self, data, shape, dtype):
        out = super().decode(data, shape, dtype)
        out.flags.writeable = False
        return out


class Crashes(Xor):
    def decode(self, data, shape, dtype):
        return np.frombuffer(self._mix(data), dtype).reshape(shape).copy()


class IgnoresTheRest(Xor):
    def decode(self, data, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return super().decode(data[:size], shape, dtype)


class HalfConfig(Xor):
    def __eq__(self, other):
        return self is other

    __hash__ = Codec.__hash__


class MutatesInput(Xor):
    def encode(self, array):
        data = super().encode(array)
        if array.flags.writeable and array.size:
            array[...] = 0
        return data


FLOATS = [
    np.linspace(-1, 1, 9),
    np.array([[0.0, -0.0], [1.0, 2.0]]),
    np.zeros((0, 3), "float32"),
]


def test_a_good_plug_in_passes():
    check_codec(Xor(3), FLOATS)
    check_codec(Xor())
    assert repr(Xor(3)) == "Xor(key=3)"


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (LosesSign(), "other values"),
        (ReadOnly(), "writable"),
        (Crashes(), "expected a SqueezeError"),
        (IgnoresTheRest(), "trailing"),
        (HalfConfig(), "another codec"),
        (MutatesInput(), "changed its input"),
    ],
)
def test_bad_plug_ins_are_found(codec, message):
    with pytest.raises(AssertionError, match=message):
        check_codec(codec, [a.copy() for a in FLOATS])


def test_a_codec_that_supports_nothing_is_not_passed():
    with pytest.raises(AssertionError, match="supports none"):
        check_codec(Xor(), [np.array([None])])


def test_the_samples_cover_the_hard_cases():
    arrays = sample_arrays()
    assert {a.shape for a in arrays} >= {(), (0, 30), (3, 0, 2)}
    assert any(not a.flags.c_contiguous for a in arrays)
    assert any(not a.dtype.isnative for a in arrays)
    assert any(not a.flags.writeable for a in arrays)
    with np.errstate(invalid="ignore"):
        assert any(np.isnan(a).any() for a in arrays if a.dtype.kind == "f")
