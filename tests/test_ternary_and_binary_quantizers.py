import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_squeeze import quantizers
from keras_squeeze.quantizers import (
    AbsMaxQuantizer,
    BinaryQuantizer,
    TernaryQuantizer,
)
from keras_squeeze.quantizers.ternary import best_level

SMALL = st.integers(-50, 50).map(lambda number: number / 8)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 9), elements=SMALL))
def test_ternary_level_is_the_best_of_all_subsets(array):
    magnitudes = np.abs(array).astype(float)
    level, gain = best_level(np.abs(array)[None])
    best = np.square(magnitudes).sum()
    for threshold in magnitudes:
        kept = magnitudes >= threshold
        mean = magnitudes[kept].mean()
        error = np.square(magnitudes - np.where(kept, mean, 0)).sum()
        best = min(best, error)
    assert np.square(magnitudes).sum() - gain[0] == pytest.approx(best)
    error = np.minimum(magnitudes, np.abs(magnitudes - level[0]))
    assert np.square(error).sum() == pytest.approx(best)


def test_ternary_is_no_worse_than_the_usual_threshold():
    generator = np.random.default_rng(0)
    weights = generator.laplace(size=(30, 200)).astype(np.float32)
    decoded = TernaryQuantizer().encode(weights, axis=0).dequantize()
    magnitudes = np.abs(weights)
    kept = magnitudes > 0.7 * magnitudes.mean(axis=1, keepdims=True)
    mean = (magnitudes * kept).sum(axis=1) / kept.sum(axis=1)
    usual = np.sign(weights) * kept * mean[:, None]
    errors = [
        np.square(values - weights).sum(axis=1) for values in (decoded, usual)
    ]
    assert np.all(errors[0] <= errors[1] * 1.0001)
    assert errors[0].sum() < 0.98 * errors[1].sum()


def test_binary_is_the_sign_times_the_mean():
    weights = np.array([[1.0, -3.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    tensor = BinaryQuantizer().encode(weights, axis=0)
    assert tensor.codes.tolist() == [[1, -1, 1], [1, 1, 1]]
    assert tensor.scale[1] == 0
    same = AbsMaxQuantizer(bits=1).encode(weights, axis=0)
    assert np.array_equal(tensor.dequantize(), same.dequantize())


@pytest.mark.parametrize(
    ("name", "bits"), [("ternary", 2), ("binary", 1), ("nf4", 4)]
)
def test_the_only_width_is_the_default(name, bits):
    assert quantizers.get(name).bits == bits
