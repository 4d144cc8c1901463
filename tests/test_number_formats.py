"""Models of every number format predict the same bits when loaded again."""

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from tests import models

L = keras.layers


def network(policy="float32"):
    layers = [
        keras.Input((12,)),
        L.Dense(16, activation="relu", dtype=policy),
        L.BatchNormalization(dtype=policy),
        L.Dense(4, dtype=policy),
    ]
    return models.randomize(keras.Sequential(layers))


def bits_of(model):
    x = np.random.default_rng(1).normal(size=(5, 12)).astype("float32")
    y = keras.ops.convert_to_numpy(model(x, training=False))
    return np.ascontiguousarray(y).view("uint8")


def reloaded(model, tmp_path, **arguments):
    ks.export(model, tmp_path / "m.h5", **arguments)
    return ks.load_model(tmp_path / "m.h5")


@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float16"]
)
def test_policies(tmp_path, policy):
    model = network(policy)
    assert (bits_of(reloaded(model, tmp_path)) == bits_of(model)).all()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_models_that_keras_quantized(tmp_path, policy):
    model = network(policy)
    model.quantize("int8")
    assert (bits_of(reloaded(model, tmp_path)) == bits_of(model)).all()


@pytest.mark.parametrize("profile", ["fast", "small"])
def test_a_file_of_codes_predicts_what_its_decoded_kernels_do(
    tmp_path, profile
):
    model = network()
    loaded = reloaded(model, tmp_path, bits=4, profile=profile)
    tensors = ks.artifact.read(tmp_path / "m.h5").decode_all()
    for variable in model.variables:
        variable.assign(tensors[variable.path.split("/", 1)[1]])
    assert (bits_of(loaded) == bits_of(model)).all()
