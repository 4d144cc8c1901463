"""A training for the coder that was killed ends as if it had not been."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_squeeze.callbacks import RatePenalty
from keras_squeeze.layers.quantization_aware import QuantizationAware

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 12)).astype("float32")
Y = (X @ RNG.normal(size=(12, 4))).astype("float32")
EPOCHS = 3


class Killed(Exception):
    """What ends a training here."""


class KillAt(keras.callbacks.Callback):
    """Kills the training at the beginning of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


class Last(keras.callbacks.Callback):
    """Keeps what the training ends with, before the kernels are frozen."""

    def on_epoch_end(self, epoch, logs=None):
        variables = [*self.model.weights, *self.model.optimizer.variables]
        self.values = [np.array(variable) for variable in variables]
        self.steps = {
            layer.name: np.array(layer.trained_kernel("kernel").step())
            for layer in self.model.layers
            if isinstance(layer, QuantizationAware)
        }


def make_model():
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(16, activation="relu", name="first"),
        keras.layers.Dense(4, name="head"),
    ]
    # Names are in the file, whose size steers the weight.
    inputs = keras.Input((12,), name="inputs")
    model = keras.Sequential([inputs, *layers], name="small")
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    return model


def train(penalty, *others):
    model, last = make_model(), Last()
    callbacks = [penalty, last, *others]
    history = model.fit(
        X,
        Y,
        batch_size=32,
        epochs=EPOCHS,
        verbose=0,
        shuffle=False,
        callbacks=callbacks,
    )
    return model, last, history.history


def assert_equal_ends(one, other):
    for value, same in zip(one.values, other.values, strict=True):
        np.testing.assert_array_equal(value, same)
    assert one.steps.keys() == other.steps.keys() == {"first", "head"}
    for name, steps in one.steps.items():
        assert np.array_equal(steps, other.steps[name]), name


@pytest.mark.parametrize(
    ("goal", "granularity"),
    [
        ({"weight": 0.3, "ramp": 0.8}, "per_channel"),
        ({"target_bytes": 2_600}, "per_tensor"),
    ],
)
def test_a_killed_training_ends_as_the_uninterrupted_one(
    goal, granularity, tmp_path
):
    def penalty():
        return RatePenalty(**goal, granularity=granularity, frequency=2)

    first = penalty()
    whole, expected, history = train(first)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(Killed):
        train(penalty(), backup, KillAt(2))
    second = penalty()
    resumed, found, rest = train(second, backup)
    assert_equal_ends(found, expected)
    for name, figures in rest.items():
        assert figures == history[name][-1:], name
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        assert one.name == other.name and np.array_equal(one, other), one.path
    np.testing.assert_array_equal(second.live._read(), first.live._read())
    if "target_bytes" in goal:
        controller = dataclasses.asdict(second.live._controller)
        assert controller == dataclasses.asdict(first.live._controller)
        assert controller["integral"] != 0


def test_killed_twice_and_first_before_the_penalty_begins(tmp_path):
    def penalty():
        return RatePenalty(
            target_bytes=2_600,
            granularity="per_channel",
            begin_epoch=1,
            frequency=1,
        )

    first = penalty()
    _, expected, history = train(first)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    for epoch in (1, 2):
        with pytest.raises(Killed):
            train(penalty(), backup, KillAt(epoch))
    second = penalty()
    _, found, rest = train(second, backup)
    assert_equal_ends(found, expected)
    assert rest["rate_bytes"] == history["rate_bytes"][-1:]
    np.testing.assert_array_equal(second.live._read(), first.live._read())
