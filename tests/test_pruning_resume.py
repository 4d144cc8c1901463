"""A training that was killed, and trainings one after another."""

import contextlib
import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_squeeze.callbacks import Pruning
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.schedules import ConstantSparsity, PolynomialDecay
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy

SAMPLES, BATCH, STEPS = 64, 8, 8


def data():
    rng = np.random.default_rng(0)
    x = rng.random((SAMPLES, 24), dtype=np.float32)
    return x, rng.integers(0, 3, SAMPLES)


def make_model(optimizer="adam"):
    keras.utils.set_random_seed(7)
    stack = [
        keras.Input((24,)),
        layers.Dense(8, activation="relu", name="hidden"),
        layers.Dense(3, activation="softmax", name="head"),
    ]
    model = keras.Sequential(stack)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


class Crash(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.at:
            raise KeyboardInterrupt


def fit(model, callbacks, epochs=3, **arguments):
    arguments = {"batch_size": BATCH, "shuffle": False, **arguments}
    x, y = arguments.pop("data", None) or data()
    with contextlib.suppress(KeyboardInterrupt):
        return model.fit(
            x, y, epochs=epochs, verbose=0, callbacks=callbacks, **arguments
        )


PLANS = {
    "gradient": {"criterion": "taylor", "allocation": "global"},
    "splicing": {"regrowth": "splicing", "criterion": "snip"},
    "rigl": {"regrowth": "rigl", "criterion": "activation"},
}


def equal(one, other):
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def values(variables):
    return [to_numpy(variable) for variable in variables]


@pytest.fixture
def setting(request):
    """What the models train under: a dtype policy, or an optimizer."""
    if request.param != "accumulation":
        keras.config.set_dtype_policy(request.param)
        yield "adam", 13
        keras.config.set_dtype_policy("float32")
    else:
        # Half as many updates as batches.
        adam = keras.optimizers.Adam(gradient_accumulation_steps=2)
        yield keras.optimizers.serialize(adam), 6


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        *((name, "float32") for name in PLANS),
        ("gradient", "mixed_float16"),
        ("splicing", "mixed_bfloat16"),
        ("gradient", "accumulation"),
        ("splicing", "accumulation"),
    ],
    indirect=["setting"],
)
def test_a_resumed_training_equals_the_uninterrupted(name, setting, tmp_path):
    optimizer, crash = setting

    def pruning():
        schedule = PolynomialDecay(0.3, 0.75, 2, 20)
        return Pruning(schedule, frequency=5, **PLANS[name])

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    def make():
        return make_model(keras.optimizers.get(optimizer))

    whole, crashed, resumed = make(), make(), make()
    fit(whole, [pruning()])
    fit(crashed, [pruning(), backup(), Crash(at=crash)])
    for weight in resumed.trainable_weights:
        weight.assign(np.ones(weight.shape))
    masks = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: masks.append(last.pruner.masks)
    )
    last = pruning()
    fit(resumed, [last, backup(), keep])
    assert len(masks) == 2
    steps = 3 * STEPS // (1 if crash > STEPS else 2)
    assert int(resumed.optimizer.iterations) == steps
    assert equal(whole.get_weights(), resumed.get_weights())
    ours, theirs = resumed.optimizer.variables, whole.optimizer.variables
    assert equal(values(ours), values(theirs))
    for kernel in find_kernels(resumed):
        assert not np.any(to_numpy(kernel.variable)[~masks[-1][kernel.path]])


def test_files_saved_meanwhile_load_in_plain_keras(tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "m.keras")
    weights = keras.callbacks.ModelCheckpoint(
        tmp_path / "m.weights.h5", save_weights_only=True
    )
    model = make_model()
    config = model.get_config()
    pruning = Pruning(0.5, criterion="taylor", regrowth="splicing", frequency=2)
    fit(model, [pruning, checkpoint, weights], epochs=1)
    assert not [name for name in vars(model) if "squeeze" in name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = keras.models.load_model(tmp_path / "m.keras")
        other = make_model()
        other.optimizer.build(other.trainable_variables)
        other.load_weights(tmp_path / "m.weights.h5")
    for one in (again, other):
        assert equal(one.get_weights(), model.get_weights())
        ours, theirs = one.optimizer.variables, model.optimizer.variables
        assert equal(values(ours), values(theirs))
        assert len(one.variables) == len(model.variables)
    assert model.get_config() == config
    assert "squeeze" not in again.to_json()


def test_the_state_of_another_pruning_is_left_aside(tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    schedule = ConstantSparsity(0.5)
    first = Pruning(schedule, criterion="taylor", frequency=4)
    fit(make_model(), [first, backup, Crash(at=STEPS + 2)])
    model = make_model()
    second = Pruning(schedule, criterion="gradient_l1", frequency=4)
    with pytest.warns(UserWarning, match="another pruning.*hidden/kernel"):
        fit(model, [second, backup], epochs=2)
    (kernel, *_) = find_kernels(model)
    assert np.mean(to_numpy(kernel.variable) == 0) == 0.5


def test_a_second_fit_goes_on_with_the_zeros_of_the_first():
    model = make_model()
    schedule = PolynomialDecay(0.3, 0.75, 0, STEPS)
    pruning = Pruning(schedule, criterion="taylor", frequency=4)
    fit(model, [pruning], epochs=1)
    zeros = [w == 0 for w in model.get_weights()]
    fit(model, [pruning], epochs=1)
    assert equal(zeros, [w == 0 for w in model.get_weights()])
    assert np.mean(zeros[0]) == 0.75


def test_a_dense_model_late_in_a_schedule_is_pruned_with_a_warning():
    model = make_model()
    fit(model, [], epochs=1)
    schedule = PolynomialDecay(0.0, 0.75, 0, STEPS)
    pruning = Pruning(schedule, criterion="taylor", regrowth="rigl")
    with pytest.warns(UserWarning, match="applies at once"):
        fit(model, [pruning], epochs=1)
    assert np.mean(model.get_weights()[0] == 0) == 0.75


def test_hooks_left_by_an_interruption_are_dropped():
    model = make_model()
    for at in (3, 6):
        pruning = Pruning(0.5, criterion="taylor", frequency=2)
        fit(model, [pruning, Crash(at)], epochs=1)
    pruning = Pruning(0.5, criterion="taylor", frequency=2)
    fit(model, [pruning], epochs=1)
    assert "update_step" not in vars(model.optimizer)
    assert not [name for name in vars(model) if "squeeze" in name]
    assert model.get_layer("head").kernel.constraint is None


def test_a_schedule_in_epochs_equals_one_in_steps(tmp_path):
    in_steps, in_epochs = make_model(), make_model()
    schedule = PolynomialDecay(0.2, 0.75, STEPS, 3 * STEPS)
    fit(in_steps, [Pruning(schedule, frequency=4)])
    schedule = PolynomialDecay(0.2, 0.75, 1, 3, unit="epochs")
    fit(in_epochs, [Pruning(schedule, frequency=4)])
    assert equal(in_steps.get_weights(), in_epochs.get_weights())


def batches():
    x, y = data()
    for start in range(0, SAMPLES, BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


def test_an_epoch_of_unknown_length_is_counted_and_remembered(tmp_path):
    import tensorflow as tf

    signature = (
        tf.TensorSpec((None, 24), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )

    def run(model, *callbacks):
        dataset = tf.data.Dataset.from_generator(
            batches, output_signature=signature
        )
        schedule = PolynomialDecay(0.2, 0.75, 1, 3, unit="epochs")
        pruning = Pruning(schedule, frequency=4)
        arguments = {"batch_size": None, "shuffle": None}
        fit(model, [pruning, *callbacks], data=(dataset, None), **arguments)
        return pruning.pruner.steps_per_epoch

    whole, resumed = make_model(), make_model()
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    steps = run(whole)
    # Keras counts the call that finds no more data as a step too.
    assert steps == STEPS + 1
    assert int(whole.optimizer.iterations) == 3 * steps
    assert np.mean(whole.get_weights()[0] == 0) == 0.75
    run(make_model(), backup, Crash(at=12))
    assert run(resumed, backup) == steps
    assert equal(whole.get_weights(), resumed.get_weights())


def test_state_is_packed_and_restored_by_name():
    class Store(dict):
        pass

    def state(values):
        found = TrainingState()
        for name in values:
            found.add(
                name,
                lambda name=name: values[name],
                lambda value, name=name: values.update({name: value}),
            )
        return found

    flags = np.arange(11) % 3 == 0
    source = {"a/b:mask": flags.reshape(11, 1), "n": np.array([-1, 7])}
    store = Store()
    state(source).save_own_variables(store)
    assert json.loads(store["names"].tobytes()) == ["a/b:mask", "n"]
    assert store["0"].nbytes == 2
    target = {"a/b:mask": np.zeros((11, 1), bool), "n": np.array([0, 0])}
    restored = state(target)
    restored.load_own_variables(store)
    assert restored.restored
    for name, value in source.items():
        np.testing.assert_array_equal(target[name], value)
        assert target[name].dtype == value.dtype
    other = state({"a/b:mask": np.zeros((30, 1), bool), "n": np.zeros(2, int)})
    with pytest.warns(UserWarning, match="another pruning"):
        other.load_own_variables(store)
    assert not other.restored
    empty = state(target)
    empty.load_own_variables(Store())
    assert not empty.restored
