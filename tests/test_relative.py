"""Differences of integers: modulo their range, and back."""

import numpy as np
import pytest

from keras_squeeze import codecs
from keras_squeeze.codecs.relative import (
    RELATIVE_IDS,
    add_difference,
    difference,
    is_relative,
)

DTYPES = ["bool", *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 32, 64))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (4, 5)], ids=str)
def test_differences_come_back(dtype, shape, rng):
    low, high = (0, 1) if dtype == "bool" else (None, None)
    if low is None:
        info = np.iinfo(dtype)
        low, high = info.min, info.max
    kind = np.uint8 if dtype == "bool" else dtype
    array, other = (
        np.asarray(rng.integers(low, high, shape, kind, True)).astype(dtype)
        for _ in range(2)
    )
    found = difference(array, other)
    assert found.shape == shape
    assert found.dtype.kind == ("b" if dtype == "bool" else "i")
    back = add_difference(found, other)
    assert back.dtype == array.dtype and (back == array).all()
    assert not difference(array, array).any()


def test_steps_across_the_end_of_a_range_are_small():
    ends = np.array([255, 0], "uint8"), np.array([0, 255], "uint8")
    assert difference(*ends).tolist() == [-1, 1]
    ends = np.array([-128], "int8"), np.array([127], "int8")
    assert difference(*ends).tolist() == [1]


def test_ids_are_no_codecs():
    assert not RELATIVE_IDS & set(codecs.names())
    assert all(is_relative({"id": name}) for name in RELATIVE_IDS)
    assert not any(map(is_relative, ({}, {"id": 3}, {"id": ["same"]})))
