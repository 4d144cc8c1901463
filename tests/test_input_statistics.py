import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_squeeze.calibration.calibrated_kernels import calibrated_kernels
from keras_squeeze.calibration.input_statistics import input_statistics
from keras_squeeze.errors import (
    NoKernelMatchedError,
    NonFiniteError,
    SqueezeError,
    UnbuiltModelError,
)
from keras_squeeze.layers.conversion import quantize_layer
from keras_squeeze.surgery.layer_tree import find_kernels

L = keras.layers


def test_mean_energy_and_largest_are_those_of_the_inputs(rng):
    model = keras.Sequential([keras.Input((4, 3)), L.Dense(2)])
    data = rng.normal(1.0, size=(70, 4, 3)).astype("float32")
    [found] = input_statistics(model, data).values()
    rows = data.reshape(-1, 3).astype("float64")
    assert found.count == len(rows)
    expected = rows.T @ rows / len(rows)
    np.testing.assert_allclose(found.gram[0], expected, rtol=1e-4)
    np.testing.assert_allclose(found.mean[0], rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.energy[0], np.diag(expected), rtol=1e-4)
    np.testing.assert_allclose(found.largest[0], np.abs(rows).max(0))
    covariance = np.cov(rows, rowvar=False, bias=True)
    np.testing.assert_allclose(found.covariance()[0], covariance, rtol=1e-3)


def test_groups_have_figures_of_their_own(rng):
    model = keras.Sequential([keras.Input((5, 4)), L.DepthwiseConv1D(2)])
    data = rng.normal(size=(8, 5, 4)).astype("float32") * [1, 2, 3, 4]
    [found] = input_statistics(model, data.astype("float32")).values()
    assert found.mean.shape == found.largest.shape == (4, 2)
    first = data[:, :-1].reshape(-1, 4)
    np.testing.assert_allclose(found.mean[:, 0], first.mean(0), atol=1e-5)
    np.testing.assert_allclose(
        found.largest[:, 0], np.abs(first).max(0), rtol=1e-6
    )


def test_tokens_of_an_embedding_are_counted(rng):
    tokens = rng.integers(0, 9, (30, 6))
    embedding = L.ReversibleEmbedding(12, 4)
    inputs = keras.Input((6,), dtype="int32")
    model = keras.Model(inputs, embedding(embedding(inputs), reverse=True))
    [found] = input_statistics(model, tokens).values()
    share = np.bincount(tokens.ravel(), minlength=12) / tokens.size
    assert found.gram is None
    assert found.covariance() is None
    assert found.count == tokens.size
    np.testing.assert_allclose(found.energy[0], share)
    np.testing.assert_array_equal(found.largest[0], share > 0)


@pytest.mark.parametrize("layer", [L.LSTM(5), L.GRU(5), L.SimpleRNN(5)])
def test_a_recurrent_kernel_meets_the_states_before_each_step(layer, rng):
    layer.return_sequences = True
    model = keras.Sequential([keras.Input((7, 3)), layer])
    data = rng.normal(size=(6, 7, 3)).astype("float32")
    before = dict(vars(layer))
    inputs, states = input_statistics(model, data).values()
    assert vars(layer) == before
    outputs = np.array(model(data), "float64")
    met = np.concatenate([np.zeros((6, 1, 5)), outputs[:, :-1]], axis=1)
    met = met.reshape(-1, 5)
    assert states.count == len(met)
    expected = met.T @ met / len(met)
    np.testing.assert_allclose(states.gram[0], expected, rtol=1e-4, atol=1e-7)
    rows = data.reshape(-1, 3)
    expected = rows.T @ rows / len(rows)
    np.testing.assert_allclose(inputs.gram[0], expected, rtol=1e-4, atol=1e-6)


def test_both_kernels_of_a_convolutional_cell_are_recorded(rng):
    layer = L.ConvLSTM1D(4, 3, strides=2, padding="same")
    model = keras.Sequential([keras.Input((3, 6, 2)), layer])
    data = rng.normal(size=(5, 3, 6, 2)).astype("float32")
    inputs, states = input_statistics(model, data).values()
    assert inputs.gram.shape == (1, 6, 6)
    assert states.gram.shape == (1, 12, 12)
    assert inputs.count == states.count == 5 * 3 * 3


def test_layers_inside_of_wrappers_are_reached(rng):
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            L.Bidirectional(L.SimpleRNN(2, return_sequences=True)),
            L.TimeDistributed(L.Dense(5)),
        ]
    )
    data = rng.normal(size=(3, 4, 3)).astype("float32")
    found = input_statistics(model, data)
    assert list(found) == [kernel.path for kernel in find_kernels(model)]
    assert {s.count for s in found.values()} == {12}


def test_all_calls_of_a_shared_layer_count(rng):
    shared = L.Dense(3)
    first, second = keras.Input((3,)), keras.Input((3,))
    outputs = L.Add()([shared(first), shared(second)])
    model = keras.Model([first, second], outputs)
    data = [rng.normal(size=(8, 3)).astype("float32") for _ in range(2)]
    [found] = input_statistics(model, data).values()
    assert found.count == 16
    expected = np.concatenate(data).mean(0)
    np.testing.assert_allclose(found.mean[0], expected, rtol=1e-4, atol=1e-6)


def test_quantized_layers_are_recorded_under_the_same_paths(rng):
    inputs = keras.Input((6, 6, 4))
    x = L.Conv2D(5, 3, name="conv")(inputs)
    x = L.DepthwiseConv2D(2, name="depth")(x)
    model = keras.Model(inputs, L.Dense(2, name="last")(L.Flatten()(x)))
    data = rng.normal(size=(8, 6, 6, 4)).astype("float32")
    before = input_statistics(model, data)
    for name in ("conv", "depth"):
        quantize_layer(model.get_layer(name))
    after = input_statistics(model, data)
    assert list(after) == list(before)
    np.testing.assert_allclose(
        after["conv/kernel"].gram, before["conv/kernel"].gram
    )
    close, exact = after["last/kernel"].gram, before["last/kernel"].gram
    assert 0 < np.abs(close - exact).max() < 0.1 * exact.max()
    chosen = input_statistics(model, data, filters="depth")
    assert list(chosen) == ["depth/kernel"]
    quantize_layer(model.get_layer("last"))
    assert len(calibrated_kernels(model)) == 3
    with pytest.raises(NoKernelMatchedError):
        input_statistics(model, data, filters="nothing")


def test_large_kernels_have_all_figures_but_the_matrix(monkeypatch, rng):
    model = keras.Sequential([keras.Input((7, 3)), L.Conv1D(2, 4)])
    data = rng.normal(size=(9, 7, 3)).astype("float32")
    [whole] = input_statistics(model, data).values()
    module = sys.modules["keras_squeeze.calibration.input_statistics"]
    monkeypatch.setattr(module, "MAX_INPUTS", 11)
    [found] = input_statistics(model, data).values()
    assert found.gram is None
    np.testing.assert_allclose(found.energy, whole.energy, rtol=1e-5)
    np.testing.assert_allclose(found.mean, whole.mean)
    assert found.count == whole.count


def test_the_layer_that_meets_infinity_first_is_named():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(3, name="first"),
            L.Rescaling(float("inf")),
            L.Dense(2, name="second"),
            L.Dense(2, name="third"),
        ]
    )
    with pytest.raises(NonFiniteError, match="second/kernel reads"):
        input_statistics(model, np.ones((3, 4), "float32"))
    assert "call" not in vars(model.get_layer("first"))


@pytest.mark.parametrize("shape", [(0, 4), (8, 5), (8,)])
def test_data_the_model_does_not_take_is_refused(shape):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    with pytest.raises(SqueezeError, match="Expected calibration data"):
        input_statistics(model, np.zeros(shape, "float32"))
    assert "call" not in vars(model.layers[0])


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(UnbuiltModelError):
        input_statistics(keras.Sequential([L.Dense(2)]), np.zeros((2, 3)))


def test_half_precision_is_summed_up_in_full(rng):
    layer = L.Dense(2, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((3,)), layer])
    data = rng.normal(size=(500, 3)).astype("float32")
    [found] = input_statistics(model, data).values()
    expected = data.T @ data / len(data)
    np.testing.assert_allclose(found.gram[0], expected, rtol=0.02, atol=0.02)


def test_batches_of_a_dataset_are_data(rng):
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    data = rng.normal(size=(50, 3)).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((data, data)).batch(16)
    [found] = input_statistics(model, dataset).values()
    assert found.count == 50
    np.testing.assert_allclose(found.mean[0], data.mean(0), rtol=1e-4)


def test_whoever_else_listens_to_a_layer_goes_on(rng):
    heard = []

    class Listening(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            from keras_squeeze.masking.method_hook import listen

            layer = self.model.layers[0]
            listen(layer, "call", self.note, self.model.history)

        def note(self, *args, **kwargs):
            heard.append(len(args))

        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                input_statistics(self.model, data)

    data = rng.normal(size=(8, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(data, np.zeros((8, 2)), 4, callbacks=[Listening()], verbose=0)
    # Once to try the data and once to record it, then two steps.
    assert len(heard) == 4
