"""Biases corrected from what batch normalization promises."""

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.calibration.data_free import expected_inputs
from tests import models

L = keras.layers


def model_of(bias, between):
    layers = [
        L.BatchNormalization(name="first"),
        *between,
        L.Conv2D(8, 1, use_bias=bias, name="read"),
        L.BatchNormalization(name="second"),
        L.GlobalAveragePooling2D(),
    ]
    model = keras.Sequential([keras.Input((4, 4, 8)), *layers])
    models.randomize(model)
    rng = np.random.default_rng(0)
    for name in ("first", "second"):
        norm = model.get_layer(name)
        norm.moving_mean.assign(np.zeros(8))
        norm.moving_variance.assign(np.ones(8))
        norm.gamma.assign(rng.uniform(-1.5, 1.5, 8))
    return model


def inputs(count=200):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 4, 4, 8)).astype("float32")


@pytest.mark.parametrize(
    "between",
    [[], [L.ReLU()], [L.ReLU(max_value=1.0), L.AveragePooling2D(2)]],
    ids=["linear", "relu", "clipped"],
)
def test_expected_means_are_those_of_normal_inputs(between):
    model = model_of(False, between)
    reader = model.get_layer("read")
    expected = expected_inputs(model)[id(reader)]
    means = keras.Model(model.inputs, reader.input)(inputs())
    np.testing.assert_allclose(
        expected, np.mean(means, axis=(0, 1, 2)), atol=0.08
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fold", [True, False])
def test_correction_without_data_takes_the_mean_error_away(bias, fold):
    model, x = model_of(bias, [L.ReLU()]), inputs()
    units = ["correct_bias", *(["fold_batch_norm"] if fold else [])]
    expected = np.mean(model(x), axis=0)

    def mean_error(method):
        small, _ = ks.quantize(model, bits=2, method=method)
        return np.abs(np.mean(small(x), axis=0) - expected).max()

    assert mean_error(units) < 0.4 * mean_error("round")


def test_equalization_divides_the_expected_means():
    norm = L.BatchNormalization(momentum=0.0)
    layers = [L.Dense(8), norm, L.ReLU(), L.Dense(3, name="last")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    models.randomize(model)
    rng = np.random.default_rng(0)
    uneven = 10 ** rng.uniform(-1, 1, 8)
    norm.gamma.assign(uneven)
    norm.beta.assign(uneven * rng.uniform(-1, 1, 8))
    layers[3].kernel.assign(layers[3].kernel / uneven[:, None])
    x = rng.normal(size=(400, 6)).astype("float32")
    model(x, training=True)
    expected = np.mean(model(x), axis=0)

    def mean_error(method):
        small, _ = ks.quantize(model, bits=3, filters="last", method=method)
        return np.abs(np.mean(small(x), axis=0) - expected).max()

    units = ["fold_batch_norm", "equalize"]
    assert mean_error([*units, "correct_bias"]) < 0.3 * mean_error(units)
