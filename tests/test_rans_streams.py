import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze.codecs import Rans
from keras_squeeze.codecs.rans import entropy_bits
from keras_squeeze.codecs.rans_streams import encode_streams

RANS = Rans()


def symbols(count, spread, seed=0):
    rng = np.random.default_rng([seed, count])
    return np.abs(rng.normal(0, spread, count)).round().astype("uint16")


def decoded(arrays):
    coded = encode_streams(arrays)
    items = [(d, a.shape, "uint16") for d, a in zip(coded, arrays, strict=True)]
    return coded, RANS.decode_many(items)


def test_streams_of_all_lengths_side_by_side():
    counts = (1, 70_000, 3, 4096, 4097, 900, 20_000, 2)
    arrays = [symbols(count, 3) for count in counts]
    arrays += [np.full(700, 9, "uint16"), symbols(5000, 300)]
    _, back = decoded(arrays)
    for out, array in zip(back, arrays, strict=True):
        assert (out == array).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 4095), min_size=1, max_size=50),
        min_size=1,
        max_size=5,
    )
)
def test_any_symbols_come_back(lists):
    arrays = [np.array(numbers, "uint16") for numbers in lists]
    _, back = decoded(arrays)
    for out, array in zip(back, arrays, strict=True):
        assert (out == array).all()


def test_one_array_is_coded_as_among_others():
    arrays = [symbols(5000, 2), symbols(9000, 5, 1)]
    together = encode_streams(arrays)
    assert together == [encode_streams([array])[0] for array in arrays]


@pytest.mark.parametrize("count", [4000, 20_000, 60_000])
def test_little_is_wasted_on_lanes(count):
    array = symbols(count, 3)
    (data,) = encode_streams([array])
    bits = entropy_bits(np.bincount(array))
    assert 8 * len(data) < 1.002 * bits + 200 + 24 * (count / 4096 + 1)
    assert len(data) <= len(RANS.encode(array))


def test_nothing_to_code():
    assert encode_streams([]) == []
    assert encode_streams([np.array([7], "uint16")]) == [
        RANS.encode(np.array([7]))
    ]
