import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_squeeze import calibration
from keras_squeeze.calibration.kernel_matrix import kernel_matrix
from keras_squeeze.errors import SqueezeError
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy

L = keras.layers


def squares_by_gram(kernel, gram):
    """Mean squared outputs of a layer without bias, summed over channels."""
    matrix = kernel_matrix(kernel).to_matrix(to_numpy(kernel.variable))
    stack = gram if gram.ndim == 3 else gram[None]
    return np.einsum("gic,gij,gjc->", matrix.astype("float64"), stack, matrix)


def squares(outputs, kernel):
    """The same, measured: a mean over the vectors that were multiplied."""
    array, view = np.array(outputs, "float64"), kernel_matrix(kernel)
    return np.square(array).sum() / (array.size / (view.groups * view.outputs))


FLAT = [
    ((7,), L.Dense(5, use_bias=False)),
    ((4, 7), L.Dense(5, use_bias=False)),
    ((9, 3), L.Conv1D(4, 3, use_bias=False)),
    ((9, 3), L.Conv1D(4, 3, padding="causal", use_bias=False)),
    ((9, 3), L.Conv1D(4, 2, strides=2, padding="same", use_bias=False)),
    ((9, 8, 3), L.Conv2D(4, 3, use_bias=False)),
    ((9, 8, 3), L.Conv2D(4, (3, 2), padding="same", use_bias=False)),
    ((9, 8, 3), L.Conv2D(4, 3, strides=2, padding="same", use_bias=False)),
    ((9, 8, 3), L.Conv2D(4, 2, dilation_rate=2, use_bias=False)),
    ((4, 5, 6, 2), L.Conv3D(3, 2, padding="same", use_bias=False)),
]
STACKED = [
    ((4, 7), L.EinsumDense("abc,cde->abde", (None, 3, 2))),
    ((4, 3, 2), L.EinsumDense("abde,dec->abc", (None, 5))),
    ((4, 3, 2), L.EinsumDense("abde,ced->abc", (None, 5))),
    ((4, 7), L.EinsumDense("...x,xy->...y", (5,))),
    ((9, 8, 4), L.Conv2D(6, 3, groups=2, padding="same", use_bias=False)),
    ((9, 4), L.Conv1D(6, 3, groups=2, padding="causal", use_bias=False)),
    ((9, 4), L.DepthwiseConv1D(3, depth_multiplier=2, use_bias=False)),
    ((9, 8, 4), L.DepthwiseConv2D(3, 2, padding="same", use_bias=False)),
    ((9, 8, 4), L.DepthwiseConv2D(3, dilation_rate=2, use_bias=False)),
    ((5, 4), L.Conv1DTranspose(6, 3, dilation_rate=2, use_bias=False)),
    ((5, 4, 3), L.Conv2DTranspose(2, (3, 2), strides=2, use_bias=False)),
    ((5, 4, 3), L.Conv2DTranspose(2, 3, 3, padding="same", use_bias=False)),
    (
        (5, 4, 3),
        L.Conv2DTranspose(
            2, (3, 2), 2, "same", output_padding=1, use_bias=False
        ),
    ),
    ((3, 4, 3, 2), L.Conv3DTranspose(2, 2, strides=2, use_bias=False)),
]


@pytest.mark.parametrize(("shape", "layer"), FLAT + STACKED)
def test_the_squares_of_the_outputs_follow_from_the_matrix(shape, layer, rng):
    model = keras.Sequential([keras.Input(shape), layer])
    data = rng.normal(size=(12, *shape)).astype("float32")
    [(path, gram)] = calibration.gram_matrices(model, data).items()
    [kernel] = find_kernels(model)
    assert path == kernel.path
    expected = squares(model(data), kernel)
    np.testing.assert_allclose(squares_by_gram(kernel, gram), expected, 1e-4)


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


def test_one_matrix_as_the_kernel_lies_has_two_dimensions(rng):
    shapes = {}
    for shape, layer in (FLAT[0], FLAT[5], STACKED[0], STACKED[7], STACKED[10]):
        model = keras.Sequential([keras.Input(shape), layer])
        data = rng.normal(size=(2, *shape)).astype("float32")
        [gram] = calibration.gram_matrices(model, data).values()
        shapes[type(layer).__name__] = gram.shape
    assert shapes == {
        "Dense": (7, 7),
        "Conv2D": (27, 27),
        "EinsumDense": (1, 7, 7),
        "DepthwiseConv2D": (4, 9, 9),
        "Conv2DTranspose": (1, 18, 18),
    }


def test_channels_first_is_the_same(rng):
    data = rng.normal(size=(6, 8, 7, 4)).astype("float32")
    grams = []
    for name, moved in (
        ("channels_last", data),
        ("channels_first", data.transpose(0, 3, 1, 2)),
    ):
        layer = L.Conv2D(3, 3, padding="same", data_format=name)
        model = keras.Sequential([keras.Input(moved.shape[1:]), layer])
        [gram] = calibration.gram_matrices(model, moved).values()
        grams.append(gram)
    np.testing.assert_allclose(grams[0], grams[1], rtol=1e-5, atol=1e-6)


def test_a_separable_convolution_has_two(rng):
    layer = L.SeparableConv2D(
        5, 3, 2, "same", depth_multiplier=2, use_bias=False
    )
    model = keras.Sequential([keras.Input((9, 8, 4)), layer])
    data = rng.normal(size=(6, 9, 8, 4)).astype("float32")
    grams = calibration.gram_matrices(model, data)
    depthwise, pointwise = find_kernels(model)
    between = keras.ops.depthwise_conv(
        data, layer.depthwise_kernel, strides=2, padding="same"
    )
    for kernel, outputs in ((depthwise, between), (pointwise, model(data))):
        gram = grams[kernel.path]
        found = squares_by_gram(kernel, gram)
        np.testing.assert_allclose(found, squares(outputs, kernel), 1e-4)


def test_projections_of_attention_are_reached(rng):
    inputs = keras.Input((5, 8))
    outputs = L.MultiHeadAttention(2, 3, use_bias=False)(inputs, inputs)
    model = keras.Model(inputs, outputs)
    data = rng.normal(size=(6, 5, 8)).astype("float32")
    grams = calibration.gram_matrices(model, data)
    kernels = {k.path.split("/")[-2]: k for k in find_kernels(model)}
    assert sorted(kernels) == ["attention_output", "key", "query", "value"]
    last = kernels["attention_output"]
    found = squares_by_gram(last, grams[last.path])
    np.testing.assert_allclose(found, squares(model(data), last), 1e-4)


def test_what_is_too_large_is_left_out(monkeypatch, rng):
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            L.Embedding(9, 4, name="tokens"),
            L.Flatten(),
            L.Dense(14, name="hidden"),
            L.Dense(2, name="last"),
        ]
    )
    data = rng.integers(0, 9, (4, 6))
    module = sys.modules["keras_squeeze.calibration.input_statistics"]
    monkeypatch.setattr(module, "MAX_INPUTS", 16)
    assert list(calibration.gram_matrices(model, data)) == ["last/kernel"]


def test_no_samples_are_refused():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    with pytest.raises(SqueezeError, match="at least one sample"):
        calibration.gram_matrices(model, np.zeros((0, 4), "float32"))
