"""A training with rounding that was killed goes on as if it had not been."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_squeeze as ks
from keras_squeeze.callbacks import QuantizationAwareTraining
from keras_squeeze.errors import ModelMismatchError
from keras_squeeze.training_quantization.live_quantization import (
    LiveQuantization,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 12)).astype("float32")
Y = (X @ RNG.normal(size=(12, 4))).astype("float32")


class Killed(Exception):
    """What ends a training here."""


class KillAt(keras.callbacks.Callback):
    """Kills the training at the end of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


def make_model(quantized=False):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, activation="relu", name="first"),
            layers.Dense(4, name="head"),
        ]
    )
    if quantized:
        model, _ = ks.quantize(model, bits=3)
    sgd = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(sgd, "mse", run_eagerly=True)
    return model


def fit(model, *callbacks, **arguments):
    return model.fit(
        X,
        Y,
        16,
        epochs=4,
        verbose=0,
        shuffle=False,
        callbacks=list(callbacks),
        **arguments,
    ).history


@pytest.mark.parametrize(
    ("quantizer", "begin", "quantized"),
    [("kmeans", 1, False), ("mse", 2, True)],
)
def test_a_killed_training_ends_as_the_uninterrupted_one(
    quantizer, begin, quantized, tmp_path
):
    def callback():
        return QuantizationAwareTraining(
            3, quantizer, begin_epoch=begin, frequency=3, freeze=False
        )

    whole = make_model(quantized)
    expected = fit(whole, callback())
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(Killed):
        fit(make_model(quantized), callback(), backup, KillAt(3))
    resumed = make_model(quantized)
    history = fit(resumed, callback(), backup)
    assert history["loss"] == expected["loss"][3:]
    assert history["quantization_snr_db"] == expected["quantization_snr_db"][3:]
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        assert one.name == other.name
        assert np.array_equal(one, other), one.path
    slots = zip(
        whole.optimizer.variables, resumed.optimizer.variables, strict=True
    )
    assert all(np.array_equal(one, other) for one, other in slots)


def test_with_factors_and_masks(tmp_path):
    def callbacks():
        return (
            ks.callbacks.LowRankFactorization(rank=2, filters="first"),
            ks.callbacks.MagnitudePruning(ks.schedules.ConstantSparsity(0.5)),
            QuantizationAwareTraining(4, begin_epoch=2),
        )

    whole = make_model()
    fit(whole, *callbacks())
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(Killed):
        fit(make_model(), *callbacks(), backup, KillAt(3))
    resumed = make_model()
    fit(resumed, *callbacks(), backup)
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        assert one.name == other.name and np.array_equal(one, other), one.path


def test_a_structure_that_does_not_fit():
    entry = {
        "path": "first",
        "quantizer": {"kernel_quantizer": "mse", "bits": 4},
        "learn_scale": True,
    }
    entry["quantizer"] |= {"granularity": "per_channel", "group_size": None}
    live = LiveQuantization(make_model())
    with pytest.raises(ModelMismatchError, match="no such layer"):
        live.restore([{**entry, "path": "other"}])
    live.restore([entry])
    assert type(live.model.layers[0]).__name__ == "QuantizationAwareDense"
    wider = {**entry, "quantizer": {**entry["quantizer"], "bits": 8}}
    with pytest.raises(ModelMismatchError, match="another grid"):
        live.restore([wider])
