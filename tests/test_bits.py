import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_squeeze.codecs import bits


@pytest.mark.parametrize("width", [0, 1, 2, 7, 8, 9, 16, 31, 32, 33, 63, 64])
@pytest.mark.parametrize("count", [0, 1, 5, 8, 70_001])
def test_fixed_widths(width, count):
    rng = np.random.default_rng(width)
    values = (
        rng.integers(0, 1 << width, count, "uint64", endpoint=False)
        if (width < 64)
        else rng.integers(0, 2**64 - 1, count, "uint64", endpoint=True)
    )
    data = bits.pack_fixed(values, width)
    assert len(data) == bits.packed_size(count, width)
    assert (bits.unpack_fixed(data, count, width) == values).all()


def test_the_first_value_is_in_the_top_bits():
    assert bits.pack_fixed(np.array([5, 1], "uint8"), 3).hex() == "a4"


@given(st.lists(st.integers(0, 200)))
def test_unary(values):
    values = np.array(values, np.int64)
    run = bits.unary_bits(values)
    assert run.size == values.sum() + values.size
    assert (bits.read_unary(run, values.size) == values).all()
    assert bits.read_unary(run, values.size + 1) is None


@given(
    st.lists(
        st.integers(0, 32).flatmap(
            lambda w: st.tuples(st.just(w), st.integers(0, (1 << w) - 1))
        )
    )
)
def test_variable_widths(pairs):
    widths = np.array([w for w, _ in pairs], np.int64)
    values = np.array([v for _, v in pairs], np.int64)
    run = bits.variable_bits(values, widths)
    assert run.size == widths.sum()
    assert (bits.read_variable(run, widths) == values).all()


def test_padding():
    assert bits.padding_is_zero(b"", 0)
    assert bits.padding_is_zero(b"\xff", 8)
    assert bits.padding_is_zero(b"\xf8", 5)
    assert not bits.padding_is_zero(b"\xf8", 4)
