"""A model of quantized layers becomes one that Keras knows alone."""

import json

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze import layers as Q
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.conversion import QUANTIZED_CLASSES, quantize_layer
from keras_squeeze.layers.dequantizing import dequantize_layer
from keras_squeeze.surgery.dequantization import (
    dequantize_model,
    release_parents,
)
from keras_squeeze.surgery.layer_tree import named_variables, walk_layers
from keras_squeeze.surgery.quantized_structure import adopt_parents
from tests import models

L = keras.layers


def quantized(kind, **arguments):
    """A quantized model of that kind, a batch, and what it makes of it."""
    model, x = models.make(kind)
    small, _ = ks.quantize(model, **{"bits": 4, **arguments})
    return model, small, x


def assert_close(first, second):
    pairs = zip(
        keras.tree.flatten(first), keras.tree.flatten(second), strict=True
    )
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def classes(model):
    return [(path, type(layer)) for path, layer in walk_layers(model)]


def of_this_package(model):
    return [c for _, c in classes(model) if "keras_squeeze" in c.__module__]


@pytest.mark.parametrize("kind", models.ALL)
def test_has_the_classes_and_variables_of_the_float_model(kind):
    model, small, x = quantized(kind)
    expected = small(x)
    paths = dequantize_model(small)
    assert paths
    assert classes(small) == classes(model)
    assert list(named_variables(small)) == list(named_variables(model))
    shapes = [v.shape for v in model.trainable_variables]
    assert [v.shape for v in small.trainable_variables] == shapes
    assert_close(expected, small(x))


def test_keras_saves_and_loads_it_alone(tmp_path):
    _, small, x = quantized("separable")
    expected = small(x)
    dequantize_model(small)
    config = json.dumps(keras.saving.serialize_keras_object(small))
    assert "keras_squeeze" not in config
    small.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert_close(expected, loaded(x))


def test_what_was_compiled_is_made_anew():
    _, small, x = quantized("sequential")
    expected = small.predict(x, verbose=0)
    dequantize_model(small)
    assert_close(expected, small.predict(x, verbose=0))
    small.layers[-1].kernel.assign(
        np.zeros_like(small.layers[-1].kernel.numpy())
    )
    assert np.abs(expected - small.predict(x, verbose=0)).max() > 1e-3


def test_trains_after_compile():
    _, small, x = quantized("subclassed")
    dequantize_model(small)
    before = [v.numpy() for v in small.trainable_variables]
    small.compile("sgd", "mse", run_eagerly=True)
    small.fit(x, np.ones_like(small(x).numpy()), verbose=0)
    after = [v.numpy() for v in small.trainable_variables]
    assert len(after) == 8
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


def test_grouped_query_attention_gets_its_class_back():
    inputs = keras.Input((5, 8))
    layer = L.GroupQueryAttention(4, 4, 2)
    model = keras.Model(inputs, layer(inputs, inputs))
    small, _ = ks.quantize(model, bits=4, filters="/(query|key)/")
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    expected = small(x)
    assert len(dequantize_model(small)) == 2
    assert classes(small) == classes(model)
    assert small.get_config() == model.get_config() | {"name": small.name}
    assert_close(expected, small(x))


def test_recurrent_layers_get_their_classes_back():
    cells = [L.GRUCell(3), L.SimpleRNNCell(3)]
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            L.Bidirectional(L.LSTM(2, return_sequences=True)),
            L.RNN(cells),
        ]
    )
    before = classes(model)
    variables = list(named_variables(model))
    for _, layer in list(walk_layers(model)):
        if type(layer) in QUANTIZED_CLASSES:
            quantize_layer(layer, bits=4)
    adopt_parents(model)
    names = {c.__name__ for c in of_this_package(model)}
    assert {"QuantizedLSTM", "QuantizedRNN"} < names
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    expected = model(x)
    assert len(dequantize_model(model)) == 4
    assert classes(model) == before
    assert list(named_variables(model)) == variables
    assert "keras_squeeze" not in json.dumps(model.get_config())
    assert_close(expected, model(x))


def test_parents_are_released_once_nothing_in_them_is_quantized():
    layer = Q.QuantizedMultiHeadAttention(2, 4)
    layer.build((None, 5, 8), (None, 5, 8))
    first, *others = Q.quantized_attention.projection_layers(layer).values()
    dequantize_layer(first)
    release_parents(layer)
    assert type(layer) is Q.QuantizedMultiHeadAttention
    assert first.name not in layer.get_config()["projections"]
    for other in others:
        dequantize_layer(other)
    release_parents(layer)
    assert type(layer) is L.MultiHeadAttention
    assert "bits" not in layer.get_config()


def test_low_rank_layers_keep_their_rank_in_float():
    model = keras.Sequential([keras.Input((16,)), L.Dense(16), L.Dense(2)])
    model, _ = ks.factorize(model, rank=2, filters="dense")
    small, _ = ks.quantize(model, bits=8)
    x = np.ones((2, 16), "float32")
    expected = small(x)
    dequantize_model(small)
    assert classes(small) == classes(model)
    assert_close(expected, small(x))


class Own(Q.QuantizedDense):
    """Nobody knows what its `call` needs."""


def test_a_class_of_the_users_leaves_the_model_as_it_was():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3), Own(2)])
    small, _ = ks.quantize(model, filters="^dense")
    before = classes(small), list(named_variables(small))
    with pytest.raises(SqueezeError, match="Own"):
        dequantize_model(small)
    assert (classes(small), list(named_variables(small))) == before


def test_a_float_model_is_left_alone():
    model, x = models.make("functional")
    model.compile("sgd", "mse")
    model.predict(x, verbose=0)
    function = model.predict_function
    assert dequantize_model(model) == []
    assert model.predict_function is function


@pytest.mark.parametrize("kind", ["nested", "separable"])
def test_load_model_dequantizes(tmp_path, kind):
    _, small, x = quantized(kind)
    ks.export(small, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5", dequantize=True)
    assert of_this_package(ks.load_model(tmp_path / "m.h5"))
    assert not of_this_package(loaded)
    assert_close(small(x), loaded(x))


def test_unpack_keeps_quantized_layers(tmp_path):
    _, small, _ = quantized("sequential")
    ks.export(small, tmp_path / "m.h5")
    ks.unpack(tmp_path / "m.h5", tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert classes(loaded) == classes(small)


def test_a_sequential_model_calls_its_float_layers_as_keras_does():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 3, name="conv")]
    )
    small, _ = ks.quantize(model, bits=4)
    again = keras.Sequential.from_config(small.get_config())
    again.set_weights(small.get_weights())
    image = np.ones((1, 6, 6, 2), "float32")
    expected = again.predict(image, verbose=0)
    # The layer was made quantized, so Keras noted that its call takes
    # `training`, which a convolution of Keras does not.
    dequantize_model(again)
    assert type(again.get_layer("conv")) is keras.layers.Conv2D
    found = again.predict(image, verbose=0)
    assert np.allclose(found, expected, atol=1e-6)
