import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers import fixed_codebook, nearest_codes
from keras_squeeze.quantizers.nearest_level import place_codes
from keras_squeeze.quantizers.quantized_tensor import codebook_index

QUARTERS = st.integers(-8, 8).map(lambda number: number / 4)


def nearest_by_trying_all(values, codebook, bits, used):
    codes = place_codes(bits).astype(int)
    result = np.empty(values.shape, int)
    for row, column in np.ndindex(values.shape):
        book = row if len(codebook) > 1 else 0

        def preference(place, levels=codebook[book], value=values[row, column]):
            level, code = levels[place], codes[place]
            distance = abs(float(level) - float(value))
            return (distance, abs(level), level < 0, abs(code), code < 0)

        places = np.flatnonzero(used[book])
        result[row, column] = codes[min(places, key=preference)]
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.booleans(), st.data())
def test_the_nearest_of_all_levels_with_ties_towards_zero(bits, shared, data):
    shape = (1 if shared else 2, 2**bits)
    levels = data.draw(hnp.arrays(np.float32, shape, elements=QUARTERS))
    used = data.draw(hnp.arrays(bool, shape))
    used[:, 0] |= ~used.any(axis=1)
    eighths = st.integers(-20, 20).map(lambda number: number / 8)
    values = data.draw(hnp.arrays(np.float32, (2, 5), elements=eighths))
    found = nearest_codes(values, levels, bits, used)
    assert found.dtype == np.int8
    expected = nearest_by_trying_all(values, levels, bits, used)
    assert np.array_equal(found, expected)


def test_all_entries_are_in_use_by_default():
    levels = fixed_codebook("power_of_two", 3)[None]
    values = np.array([[-9.0, -0.0, 0.0, 0.1, 0.126, np.inf, -np.inf]])
    codes = nearest_codes(values, levels, 3)
    # The entry of the code -4 is 0 too: zero has the code nearest to zero.
    assert codes.tolist() == [[-3, 0, 0, 0, 1, 3, -3]]


def test_signs_are_the_codes_of_one_bit():
    levels = np.array([[-0.5, 1.0]], np.float32)
    codes = nearest_codes(np.array([[-2.0, 0.25, 0.26]]), levels, 1)
    assert codes.tolist() == [[-1, -1, 1]]


@pytest.mark.parametrize("bits", range(1, 9))
def test_place_codes_undo_the_index(bits):
    places = codebook_index(place_codes(bits), bits)
    assert np.array_equal(places, np.arange(2**bits))


def test_large_rows_are_taken_in_slices():
    values = np.random.default_rng(0).normal(size=(2, 300_000))
    levels = fixed_codebook("nf4", 4)[None]
    codes = nearest_codes(values, levels, 4)
    tail = nearest_codes(values[:, -100:], levels, 4)
    assert np.array_equal(codes[:, -100:], tail)


@pytest.mark.parametrize(
    ("values", "codebook", "used", "received"),
    [
        ((4,), (1, 4), None, r"values of shape \(4,\)"),
        ((3, 4), (2, 4), None, r"codebook of shape \(2, 4\)"),
        ((3, 4), (1, 8), None, r"codebook of shape \(1, 8\)"),
        ((3, 4), (1, 4), (4,), r"used=\(4,\)"),
        ((2, 4), (2, 4), (2, 4), r"none in row 0"),
    ],
)
def test_what_does_not_fit(values, codebook, used, received):
    mask = None if used is None else np.zeros(used, bool)
    with pytest.raises(SqueezeError, match=f"Received.*{received}"):
        nearest_codes(np.zeros(values), np.zeros(codebook, "f"), 2, mask)
