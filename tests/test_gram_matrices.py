import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_squeeze import calibration
from keras_squeeze.errors import SqueezeError
from keras_squeeze.surgery.layer_tree import find_kernels

L = keras.layers


def outputs_by_gram(kernel, gram):
    """Mean squared outputs of a layer without bias, of each channel."""
    matrix = np.array(kernel.variable).reshape(len(gram), -1)
    return np.einsum("ic,ij,jc->c", matrix, gram, matrix)


def squared(outputs):
    array = np.array(outputs, "float64")
    return np.square(array.reshape(-1, array.shape[-1])).mean(0)


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ((7,), L.Dense(5, use_bias=False)),
        ((4, 7), L.Dense(5, use_bias=False)),
        ((9, 3), L.Conv1D(4, 3, use_bias=False)),
        ((9, 3), L.Conv1D(4, 3, padding="causal", use_bias=False)),
        ((9, 3), L.Conv1D(4, 2, strides=2, padding="same", use_bias=False)),
        ((9, 8, 3), L.Conv2D(4, 3, use_bias=False)),
        ((9, 8, 3), L.Conv2D(4, (3, 2), padding="same", use_bias=False)),
        ((9, 8, 3), L.Conv2D(4, 3, strides=2, padding="same", use_bias=False)),
        ((9, 8, 3), L.Conv2D(4, 2, dilation_rate=2, use_bias=False)),
    ],
)
def test_the_squares_of_the_outputs_follow_from_the_matrix(shape, layer, rng):
    model = keras.Sequential([keras.Input(shape), layer])
    data = rng.normal(size=(40, *shape)).astype("float32")
    [(path, gram)] = calibration.gram_matrices(model, data).items()
    [kernel] = find_kernels(model)
    assert path == kernel.path
    expected = squared(model(data))
    np.testing.assert_allclose(
        outputs_by_gram(kernel, gram), expected, rtol=1e-4
    )


def test_layers_in_nested_and_subclassed_models_are_reached(rng):
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.Sequential([L.Dense(6), L.ReLU(), L.Dense(2)])

        def call(self, x):
            return self.inner(x)

    model, data = Mine(), rng.normal(size=(50, 4)).astype("float32")
    model(data)
    found = calibration.gram_matrices(model, data)
    assert [gram.shape for gram in found.values()] == [(4, 4), (6, 6)]


def test_the_model_is_as_it_was_afterwards(rng):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    data = rng.normal(size=(8, 4)).astype("float32")
    before = np.array(model(data))
    calibration.gram_matrices(model, data)
    assert "call" not in vars(model.layers[0])
    np.testing.assert_array_equal(np.array(model(data)), before)
    model.compile("sgd", "mse")
    model.fit(data, np.zeros((8, 3)), verbose=0)


def test_the_layers_are_as_they_were_even_if_the_model_fails():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    with pytest.raises(ValueError):
        calibration.gram_matrices(model, np.zeros((8, 5), "float32"))
    assert "call" not in vars(model.layers[0])


def test_batches_of_a_dataset_and_lists_of_inputs_are_data(rng):
    a, b = L.Input((4,)), L.Input((3,))
    joined = L.Dense(2, name="joined")(L.Concatenate()([a, b]))
    model = keras.Model([a, b], joined)
    first = rng.normal(size=(70, 4)).astype("float32")
    second = rng.normal(size=(70, 3)).astype("float32")
    both = np.concatenate([first, second], 1)
    expected = both.T @ both / 70
    dataset = tf.data.Dataset.from_tensor_slices(((first, second), first))
    for data in ([first, second], dataset.batch(16)):
        [gram] = calibration.gram_matrices(model, data).values()
        np.testing.assert_allclose(gram, expected, rtol=1e-4, atol=1e-5)


def test_what_is_not_supported_is_left_out(monkeypatch, rng):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            L.DepthwiseConv2D(3),
            L.Conv2D(4, 3, groups=2),
            L.Flatten(),
            L.Dense(30, name="hidden"),
            L.Dense(2, name="last"),
        ]
    )
    data = rng.normal(size=(4, 6, 6, 4)).astype("float32")
    module = sys.modules["keras_squeeze.calibration.gram_matrices"]
    monkeypatch.setattr(module, "MAX_INPUTS", 16)
    assert list(calibration.gram_matrices(model, data)) == ["hidden/kernel"]


def test_no_samples_are_refused():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    with pytest.raises(SqueezeError, match="at least one sample"):
        calibration.gram_matrices(model, np.zeros((0, 4), "float32"))
