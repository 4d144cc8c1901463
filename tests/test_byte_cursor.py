import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_squeeze.codecs.byte_cursor import (
    ByteCursor,
    signed_varint,
    varint,
)
from keras_squeeze.errors import CorruptArtifactError


@given(st.integers(0, 2**64 - 1))
def test_varint(value):
    cursor = ByteCursor(varint(value), "test")
    assert cursor.varint(2**64 - 1) == value
    cursor.finish()


@given(st.integers(-(2**63), 2**64 - 1))
def test_signed_varint(value):
    cursor = ByteCursor(signed_varint(value), "test")
    assert cursor.signed_varint(-(2**63), 2**64 - 1) == value
    cursor.finish()


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "00"), (-1, "01"), (1, "02"), (-64, "7f")]
)
def test_zigzag(value, expected):
    assert signed_varint(value).hex() == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "1 more bytes"),
        ("80", "1 more bytes"),
        ("8000", "shortest"),
        ("05", "at most 4"),
        ("ff" * 10, "10 bytes"),
        ("ff" * 10 + "01", "10 bytes"),
    ],
)
def test_bad_varints(data, message):
    with pytest.raises(CorruptArtifactError, match=f"'test'.*{message}"):
        ByteCursor(bytes.fromhex(data), "test").varint(4)


def test_taking_and_finishing():
    cursor = ByteCursor(bytearray(b"abcd"), "test")
    assert bytes(cursor.take(2)) == b"ab" and cursor.remaining == 2
    with pytest.raises(CorruptArtifactError, match="trailing"):
        cursor.finish()
    with pytest.raises(CorruptArtifactError, match="3 more"):
        cursor.take(3)
    assert bytes(cursor.take_rest()) == b"cd"
    cursor.finish()
