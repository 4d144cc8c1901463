import contextlib

import keras
import numpy as np
import pytest
from keras import layers

from keras_squeeze.callbacks import Pruning
from keras_squeeze.callbacks.weight_rewinding import WeightRewinding
from keras_squeeze.errors import SqueezeError
from keras_squeeze.schedules import ConstantSparsity

X = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
Y = X[:, :2] ** 2
STEPS = 6


def momentum(**arguments):
    return keras.optimizers.SGD(0.05, momentum=0.9, **arguments)


def make_model(optimizer=None, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.BatchNormalization(momentum=0.5),
            layers.Dense(2, name="head"),
        ]
    )
    model.compile(optimizer or momentum(), "mse", **arguments)
    # Otherwise Keras traces the first step twice.
    model.optimizer.build(model.trainable_variables)
    return model


AVERAGE = {"use_ema": True, "ema_momentum": 0.5}


class Weights(keras.callbacks.Callback):
    """Copies the weights after every batch, by the number of batches."""

    def __init__(self):
        super().__init__()
        self.after = []

    def on_train_begin(self, logs=None):
        self.after.append(self.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self.model.get_weights())


def fit(model, *callbacks, epochs=2, **arguments):
    weights = Weights()
    model.fit(
        X,
        Y,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, weights],
        **arguments,
    )
    return weights.after


def assert_equal(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("arguments", [{}, AVERAGE], ids=["plain", "average"])
def test_a_training_repeats_itself_from_the_step_gone_back_to(arguments):
    optimizer = momentum(**arguments)
    # An epoch apart, so that the batches are the same.
    after = fit(make_model(optimizer), WeightRewinding(to=3, at=3 + STEPS))
    for step in (4, 5, 6):
        assert_equal(after[step], after[step + STEPS])
    assert not np.array_equal(after[3][0], after[9][0])


def test_going_back_to_the_start():
    after = fit(make_model(), WeightRewinding(to=0, at=1, unit="epochs"))
    assert_equal(after[5], after[5 + STEPS])


def test_several_rewinds(capsys):
    rewinding = WeightRewinding(to=2, at=[8, 14], verbose=1)
    after = fit(make_model(), rewinding, epochs=3)
    assert_equal(after[4], after[10])
    assert_equal(after[5], after[17])
    printed = capsys.readouterr().out
    line = "Step {}: WeightRewinding going back to the weights of step 2."
    assert [line.format(step) in printed for step in (8, 14)] == [True, True]


def test_masks_stay_in_force_and_weights_go_back():
    pruning = Pruning(ConstantSparsity(0.5, 9, 9), filters="head")
    # Before the pruning or after it: it goes back with the next batch.
    model, rewinding = make_model(), WeightRewinding(to=3, at=9)
    witness = Weights()

    class Before(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            witness.after.append(self.model.get_weights())

    after = fit(model, rewinding, pruning, Before())
    trained, back = after[9], witness.after[9]
    keep = trained[-2] != 0
    assert keep.mean() == 0.5
    np.testing.assert_array_equal(back[-2], np.where(keep, after[3][-2], 0))
    assert_equal(back[:-2], after[3][:-2])
    np.testing.assert_array_equal(after[-1][-2] != 0, keep)


@pytest.mark.parametrize(
    "arguments",
    [{"jit_compile": True}, {"steps_per_execution": 3}],
)
def test_modes_of_execution(arguments):
    rewinding = WeightRewinding(to=3, at=9)
    after = fit(make_model(**arguments), rewinding)
    repeated = 2 if "steps_per_execution" in arguments else 6
    assert_equal(after[repeated], after[-1])


def test_loss_scaling_is_seen_through():
    optimizer = keras.optimizers.LossScaleOptimizer(momentum(), 1.0)
    after = fit(make_model(optimizer), WeightRewinding(to=3, at=9))
    assert_equal(after[4], after[10])


class Crash(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def pruned(folder, *more):
    """Copies in the first epoch and goes back at the begin of the third."""
    model = make_model()
    callbacks = [
        Pruning(ConstantSparsity(0.5, 12, 12), criterion="taylor"),
        WeightRewinding(to=3, at=12),
        keras.callbacks.BackupAndRestore(folder),
    ]
    with contextlib.suppress(KeyboardInterrupt):
        fit(model, *callbacks, *more, epochs=3)
    return model


def test_a_resumed_training_equals_the_uninterrupted(tmp_path):
    whole = pruned(tmp_path / "whole")
    pruned(tmp_path / "crashed", Crash(2))
    resumed = pruned(tmp_path / "crashed")
    assert_equal(whole.get_weights(), resumed.get_weights())


def test_files_saved_meanwhile_are_those_of_the_plain_model(tmp_path):
    model, path = make_model(), tmp_path / "model.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(path)
    fit(model, WeightRewinding(to=0, at=20), checkpoint, epochs=1)
    again = keras.models.load_model(path)
    assert_equal(model.get_weights(), again.get_weights())
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
    assert not [name for name in vars(model) if "squeeze" in name]


def test_the_copies_stay_for_a_further_fit():
    model, rewinding = make_model(), WeightRewinding(to=3, at=9)
    first = fit(model, rewinding, epochs=1)
    second = fit(model, rewinding, epochs=1)
    assert_equal(first[6], second[6])


def test_an_unbuilt_model_is_copied_once_it_is_built():
    model = keras.Sequential([layers.Dense(2)])
    model.compile(momentum(), "mse")
    rewinding = WeightRewinding(to=1, at=2)
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[rewinding])
    assert rewinding._snapshot.rewinds == 1


def test_an_unbuilt_model_has_no_start_to_go_back_to():
    model = keras.Sequential([layers.Dense(2)])
    model.compile(momentum(), "mse")
    with pytest.raises(SqueezeError, match=r"built model.*begins at step 0"):
        fit(model, WeightRewinding(to=0, at=7))


def test_a_late_start_is_refused_unless_all_is_over():
    model = make_model()
    fit(model, epochs=1)
    with pytest.raises(SqueezeError, match=r"to=3, a training.*step 6$"):
        fit(model, WeightRewinding(to=3, at=9), epochs=1)
    fit(model, WeightRewinding(to=3, at=5), epochs=1)


def test_a_callback_without_a_model_is_refused():
    with pytest.raises(SqueezeError, match=r"Received: model=None$"):
        WeightRewinding(0, 1).on_train_begin()
