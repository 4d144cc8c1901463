import json

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.saving.deferred_initializer import (
    DeferredInitializer,
    defer_initializers,
)
from keras_squeeze.surgery.layer_tree import walk_layers
from tests.models import ALL, make


def everything():
    """Layers that keep initializers in different ways."""
    layers = keras.layers
    inputs = keras.Input((6, 8))
    x = layers.MultiHeadAttention(2, 4, kernel_initializer="he_normal")(
        inputs, inputs
    )
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.RNN(layers.GRUCell(4), return_sequences=True)(x)
    x = layers.TimeDistributed(layers.Dense(5, kernel_initializer="zeros"))(x)
    x = layers.SeparableConv1D(4, 3)(x)
    x = keras.Sequential([layers.Dense(3), layers.LayerNormalization()])(x)
    return keras.Model(inputs, layers.Flatten()(x))


def config_of(model):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def initializers(config):
    if isinstance(config, dict):
        if config.get("module") == "keras.initializers":
            yield json.dumps(config, sort_keys=True)
        for value in config.values():
            yield from initializers(value)
    elif isinstance(config, list):
        for value in config:
            yield from initializers(value)


def test_the_loaded_model_has_the_initializers_of_the_saved_one(tmp_path):
    model = everything()
    ks.export(model, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    expected = list(initializers(config_of(model)))
    assert len(expected) >= 20
    assert list(initializers(config_of(loaded))) == expected
    for path, layer in walk_layers(loaded):
        left = [v for v in vars(layer).values() if is_deferred(v)]
        assert not left, path


def is_deferred(value):
    return isinstance(value, DeferredInitializer)


def test_a_loaded_model_can_be_cloned_with_fresh_weights(tmp_path):
    ks.export(everything(), tmp_path / "m.h5")
    clone = keras.models.clone_model(ks.load_model(tmp_path / "m.h5"))
    kernels = [v for v in clone.trainable_variables if v.name == "kernel"]
    nonzero = [np.count_nonzero(kernel) for kernel in kernels]
    # One kernel is initialized with zeros on purpose.
    assert nonzero.count(0) == 1


def test_no_random_number_is_drawn(tmp_path, monkeypatch):
    ks.export(everything(), tmp_path / "m.h5")

    def refuse(*args, **kwargs):
        raise AssertionError("a random initializer was called")

    for name in ("VarianceScaling", "Orthogonal"):
        monkeypatch.setattr(
            getattr(keras.initializers, name), "__call__", refuse
        )
    with pytest.raises(AssertionError):
        keras.layers.Dense(3).build((None, 3))
    ks.load_model(tmp_path / "m.h5")


@pytest.mark.parametrize("kind", sorted(ALL))
def test_every_model_is_rebuilt_alike(kind, tmp_path):
    model = make(kind)[0]
    ks.export(model, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    expected = list(initializers(config_of(model)))
    assert list(initializers(config_of(loaded))) == expected


def test_layers_of_the_user_draw_their_own_numbers():
    config = {
        "module": "mine",
        "class_name": "Mine",
        "config": {"kernel_initializer": glorot()},
        "registered_name": "mine>Mine",
    }
    assert defer_initializers(config) == config
    stock = {**config, "module": "keras.layers"}
    wrapped = defer_initializers(stock)["config"]["kernel_initializer"]
    assert wrapped["config"]["initializer"] == glorot()


def glorot():
    return {
        "module": "keras.initializers",
        "class_name": "GlorotUniform",
        "config": {"seed": None},
        "registered_name": None,
    }


def test_the_wrapper_clones_itself():
    # Attention layers copy their initializer for each of their sublayers.
    deferred = DeferredInitializer(keras.initializers.HeNormal(seed=3))
    clone = deferred.__class__.from_config(deferred.get_config())
    assert clone.initializer.get_config()["seed"] == 3
    assert not np.any(clone((2, 3)))
