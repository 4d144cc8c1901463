import keras
import numpy as np
import pytest
from keras import layers

from keras_squeeze.callbacks.training_snapshot import TrainingSnapshot
from keras_squeeze.masking.kernel_mask import KernelMask
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy

GRADIENTS = [np.full((3, 2), 0.3, "float32"), np.full((2,), -0.2, "float32")]


def make_model(optimizer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile(optimizer, "mse")
    return model


def train(model, steps):
    """Steps of constant gradients; gives how far the last one moved."""
    for _ in range(steps):
        before = model.get_weights()
        model.optimizer.apply(
            [keras.ops.convert_to_tensor(g) for g in GRADIENTS],
            model.trainable_variables,
        )
    pairs = zip(before, model.get_weights(), strict=True)
    return [one - other for one, other in pairs]


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax", "Nadam"])
def test_the_first_steps_are_not_larger_than_others(name):
    # Of equal gradients, each step is as large as the learning rate once
    # the averages are corrected; without that, three times as large.
    model = make_model(getattr(keras.optimizers, name)(0.01))
    snapshot = TrainingSnapshot(model)
    train(model, 3)
    snapshot.take(3)
    model.optimizer.iterations.assign(2000)
    snapshot.put_back(2000)
    for moved in train(model, 1):
        np.testing.assert_allclose(np.abs(moved), 0.01, rtol=0.15)


def test_count_and_learning_rate_do_not_go_back():
    model = make_model(keras.optimizers.SGD(0.1))
    snapshot = TrainingSnapshot(model)
    snapshot.take(0)
    start = model.get_weights()
    train(model, 2)
    model.optimizer.learning_rate = 0.5
    snapshot.put_back(2)
    assert int(model.optimizer.iterations) == 2
    assert float(model.optimizer.learning_rate) == 0.5
    np.testing.assert_array_equal(model.get_weights()[0], start[0])


def test_every_slot_goes_back():
    model = make_model(keras.optimizers.Adafactor(0.1))
    snapshot = TrainingSnapshot(model)
    train(model, 1)
    snapshot.take(1)
    before = [to_numpy(v).copy() for v in model.optimizer.variables[2:]]
    train(model, 1)
    snapshot.put_back(2)
    after = [to_numpy(v) for v in model.optimizer.variables[2:]]
    assert len(after) > 2
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pruned_weights_and_their_slots_stay_zero():
    model = make_model(keras.optimizers.SGD(0.1, momentum=0.9))
    train(model, 1)
    snapshot = TrainingSnapshot(model)
    snapshot.take(1)
    early = model.get_weights()[0]
    mask = KernelMask(find_kernels(model)[0])
    keep = np.arange(6).reshape(3, 2) % 2 == 0
    mask.attach()
    mask.assign(keep, early)
    train(model, 1)
    snapshot.put_back(2)
    np.testing.assert_array_equal(
        model.get_weights()[0], np.where(keep, early, 0)
    )
    momentum = to_numpy(model.optimizer.variables[2])
    np.testing.assert_array_equal(momentum != 0, keep)


def test_what_splicing_remembers_goes_back_too():
    model = make_model(keras.optimizers.SGD(0.1))
    early = model.get_weights()[0]
    mask = KernelMask(find_kernels(model)[0], keeps_pruned_weights=True)
    keep = np.arange(6).reshape(3, 2) % 2 == 0
    mask.attach()
    mask.assign(keep, early)
    snapshot = TrainingSnapshot(model)
    snapshot.take(0)
    train(model, 2)
    mask.assign(~keep, mask.full_weights(mask.weights()))
    snapshot.put_back(2)
    np.testing.assert_array_equal(mask.weights(), np.where(keep, 0, early))
    np.testing.assert_array_equal(
        to_numpy(mask.shadow), np.where(keep, early, 0)
    )
