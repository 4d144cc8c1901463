"""An optimizer keeps what it knows when variables are replaced."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.optimizer_slots import inner_optimizers
from keras_squeeze.surgery.layer_tree import to_numpy
from keras_squeeze.surgery.optimizer_migration import (
    migrate_optimizer,
    renew_functions,
)
from keras_squeeze.surgery.optimizer_rebuilding import slot_lists
from tests.splitting import (
    BATCH,
    SAMPLES,
    SplitAt,
    data,
    fit,
    make_model,
    split,
)

optimizers = keras.optimizers
STEPS = SAMPLES // BATCH
AVERAGES = "_model_variables_moving_average"

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.05),
    "sgd_momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
    "sgd_nesterov": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(momentum=0.5, centered=True),
    "adam": lambda: optimizers.Adam(amsgrad=True),
    "adamw": lambda: optimizers.AdamW(weight_decay=0.01, clipnorm=0.5),
    "nadam": lambda: optimizers.Nadam(global_clipnorm=0.5),
    "lion": lambda: optimizers.Lion(clipvalue=0.1),
    "adagrad": lambda: optimizers.Adagrad(),
    "adadelta": lambda: optimizers.Adadelta(),
    "adamax": lambda: optimizers.Adamax(),
    "adafactor": lambda: optimizers.Adafactor(),
    "ftrl": lambda: optimizers.Ftrl(0.05),
    "muon": lambda: optimizers.Muon(),
    "lamb": lambda: optimizers.Lamb(),
    "schedule_free": lambda: optimizers.ScheduleFreeAdamW(),
    "accumulation": lambda: optimizers.Adam(gradient_accumulation_steps=3),
    "average": lambda: optimizers.SGD(
        0.05, momentum=0.9, use_ema=True, ema_overwrite_frequency=3
    ),
    "schedule": lambda: optimizers.Adam(
        optimizers.schedules.CosineDecay(0.01, 20)
    ),
    "loss_scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(), 8.0, 3
    ),
    "several": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(momentum=0.9), {"middle/.*": optimizers.Adam()}
        )
    ),
}


def values(variables):
    return [None if v is None else to_numpy(v) for v in variables]


def slots_by_variable(optimizer):
    """{(path of the variable, name of the slot): array}"""
    found = {}
    for inner in inner_optimizers(optimizer):
        for name, slots in slot_lists(inner).items():
            pairs = zip(inner._trainable_variables, slots, strict=True)
            for variable, slot in pairs:
                if slot is not None:
                    found[variable.path, name] = to_numpy(slot)
    return found


def scalars(optimizer):
    found = {}
    several = [optimizer, *inner_optimizers(optimizer)]
    for place, one in enumerate(several):
        for name, value in vars(one).items():
            if isinstance(value, keras.Variable):
                found[place, name] = to_numpy(value)
    return found


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=str(key))


def trained(name):
    """A model after a few real steps of its optimizer, without `fit`."""
    model = make_model(OPTIMIZERS[name]())
    model.optimizer.build(model.trainable_variables)
    x, y = data()
    for _ in range(4):
        step(model, x[:BATCH], y[:BATCH])
    return model, x, y


def step(model, x, y):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(y=y, y_pred=model(x))
    variables = model.trainable_variables
    # Not the gradient of the scaled loss, which matters to no slot's place.
    model.optimizer.apply(tape.gradient(loss, variables), variables)
    return float(loss)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_that_stays_is_kept_bit_for_bit(name):
    model, x, y = trained(name)
    optimizer = model.optimizer
    slots, alone = slots_by_variable(optimizer), scalars(optimizer)
    assert slots or name == "sgd"
    kernel = model.get_layer("middle").factors[0].path
    split(model, 2)
    assert model.optimizer is optimizer
    new = slots_by_variable(optimizer)
    stays = {key: slot for key, slot in slots.items() if key[0] != kernel}
    assert_equal(stays, {key: new[key] for key in stays})
    assert_equal(alone, scalars(optimizer))
    added = {path for path, _ in new} - {path for path, _ in slots}
    assert len(added) == (2 if slots else 0)
    # It is now as one that was built for these variables, in their order.
    fresh = OPTIMIZERS[name]()
    fresh.build(model.trainable_variables)
    for (path, slot), value in slots_by_variable(fresh).items():
        if path in added and slot not in (AVERAGES, "_linears"):
            np.testing.assert_array_equal(new[path, slot], value)
    shapes = [(v.shape, v.dtype) for v in optimizer.variables]
    assert shapes == [(v.shape, v.dtype) for v in fresh.variables]
    before = values(model.trainable_variables)
    losses = [step(model, x, y) for _ in range(3)]
    assert np.isfinite(losses).all()
    after = values(model.trainable_variables)
    assert not any(map(np.array_equal, before, after))


def test_averages_begin_at_the_value():
    model, _, _ = trained("average")
    split(model, 2)
    slots = slots_by_variable(model.optimizer)
    for factor in model.get_layer("middle").factors:
        np.testing.assert_array_equal(
            slots[factor.path, AVERAGES], to_numpy(factor)
        )


@pytest.mark.parametrize("rank", [2, 4])
def test_ftrl_leaves_new_weights_where_they_are(rank):
    model, x, y = trained("ftrl")
    split(model, rank)
    factors = model.get_layer("middle").factors
    before = values(factors)
    step(model, x, y)
    for old, new in zip(before, values(factors), strict=True):
        # From fresh slots most of a weight is gone after one step.
        assert np.abs(new - old).max() < 0.3 * np.abs(old).max()


def test_slots_of_new_variables_can_be_given():
    model, _, _ = trained("adam")
    asked = []

    def new_slots(name, variable):
        asked.append((variable.path, name))
        if name == "_velocities":
            return None
        return np.full(variable.shape, len(asked), np.float32)

    split(model, 2, new_slots)
    slots = slots_by_variable(model.optimizer)
    assert len(asked) == 6
    for number, key in enumerate(asked, start=1):
        expected = 0 if key[1] == "_velocities" else number
        assert np.all(slots[key] == expected)


@pytest.mark.parametrize("name", ["average", "schedule_free", "ftrl"])
def test_slots_that_hold_weights_are_not_asked_for(name):
    model, _, _ = trained(name)
    asked = set()
    split(model, 2, lambda slot, variable: asked.add(slot))
    weights = {AVERAGES, "_linears"}
    if name == "schedule_free":
        weights.add("_momentums")
    assert asked and not asked & weights


@pytest.mark.parametrize(
    "value", [np.zeros((2, 3)), np.float32(1), np.full((5, 2), np.nan)]
)
def test_a_slot_that_does_not_fit_is_refused(value):
    model, x, y = trained("adam")
    with pytest.raises(SqueezeError, match=r"slot `_momentums` of .*/u\. Rec"):
        split(model, 2, lambda *_: value)
    slots = slots_by_variable(model.optimizer)
    for factor in model.get_layer("middle").factors:
        assert not slots[factor.path, "_momentums"].any()
    step(model, x, y)


def test_nothing_to_do_for_an_optimizer_that_is_not_built():
    migrate_optimizer(None, [])
    model = make_model(optimizers.LossScaleOptimizer(optimizers.Adam()))
    migrate_optimizer(model.optimizer, model.trainable_variables)
    assert not model.optimizer.built
    assert not model.optimizer.inner_optimizer.built
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    renew_functions(unbuilt)
    assert unbuilt.train_function is None


def test_frozen_and_unfrozen_layers_move_in_and_out():
    model, x, y = trained("adam")
    kept = slots_by_variable(model.optimizer)
    model.get_layer("first").trainable = False
    migrate_optimizer(model.optimizer, model.trainable_variables)
    remaining = slots_by_variable(model.optimizer)
    assert 0 < len(remaining) < len(kept)
    assert_equal(remaining, {key: kept[key] for key in remaining})
    model.trainable = False
    migrate_optimizer(model.optimizer, model.trainable_variables)
    assert len(model.optimizer.variables) == 2
    model.trainable = True
    model.get_layer("first").trainable = True
    migrate_optimizer(model.optimizer, model.trainable_variables)
    step(model, x, y)


class WithOwnVariable(optimizers.SGD):
    """Makes a variable in the constructor, another in `build`."""

    def __init__(self, **kwargs):
        super().__init__(momentum=0.9, **kwargs)
        self.mine = self.add_variable((), name="mine")
        self.table = {"more": self.add_variable((2,), name="more")}

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.count = self.add_variable((), name="count")


def test_variables_of_an_own_optimizer_stay_in_their_place():
    model = make_model(WithOwnVariable())
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    optimizer.mine.assign(3.0)
    optimizer.count.assign(4.0)
    names = [v.name for v in optimizer.variables]
    split(model, 2)
    assert [v.name for v in optimizer.variables[:4]] == names[:4]
    assert optimizer.variables[2] is optimizer.mine
    assert float(optimizer.mine) == 3 and float(optimizer.count) == 4
    assert len(optimizer.variables) == len(names) + 1


class Stubborn(optimizers.SGD):
    def build(self, variables):
        if not hasattr(self, "kept"):
            super().build(variables)
            self.kept = self.add_optimizer_variables(variables, "kept")


def test_an_optimizer_that_cannot_be_built_again_is_left_as_it_was():
    model = make_model(Stubborn())
    optimizer, old = model.optimizer, list(model.trainable_variables)
    optimizer.build(old)
    before = list(optimizer.variables)
    with pytest.raises(SqueezeError, match=r"`kept` anew.*Received: Stubborn"):
        split(model, 2)
    assert optimizer.built
    assert list(map(id, optimizer.variables)) == list(map(id, before))
    assert list(optimizer._trainable_variables) == old


def test_an_excluded_variable_stays_excluded_from_weight_decay():
    optimizer = optimizers.AdamW(weight_decay=0.5)
    model = make_model(optimizer)
    middle = model.get_layer("middle")
    optimizer.exclude_from_weight_decay([middle.bias, middle.factors[0]])
    optimizer.build(model.trainable_variables)
    step(model, *data())
    split(model, 2)
    keys = map(optimizer._var_key, [middle.bias])
    assert set(optimizer._exclude_from_weight_decay) == set(keys)
    assert not optimizer._use_weight_decay(middle.bias)
    assert optimizer._use_weight_decay(middle.factors[0])


def test_a_variable_gets_an_optimizer_of_its_own_within_several():
    made = []

    def choose(variable):
        made.append(
            optimizers.Adam() if "middle" in variable.path else optimizers.SGD()
        )
        return made[-1]

    model = make_model(optimizers.MultiOptimizer(choose))
    model.optimizer.build(model.trainable_variables)
    step(model, *data())
    several = model.optimizer
    assert len(several.optimizers) == 6
    split(model, 2)
    assert len(made) == len(several.optimizers) == 8
    assert [int(one._iterations) for one in made] == [1] * 8
    step(model, *data())
    assert int(made[-1]._iterations) == int(several.iterations) == 2


def test_history_metrics_and_validation_go_on_in_the_same_fit(tmp_path):
    model = make_model(optimizers.Adam(0.02))
    changes = SplitAt(epochs={0: 3}, steps={STEPS + 2: 2})
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = fit(model, [changes, log], epochs=2, validation_data=data())
    assert history is model.history
    assert set(history.history) == {
        *("loss", "accuracy", "val_loss", "val_accuracy")
    }
    for logged in history.history.values():
        assert len(logged) == 2 and np.isfinite(logged).all()
    assert history.history["loss"][1] < history.history["loss"][0]
    assert int(model.optimizer.iterations) == 2 * STEPS
    shapes = [tuple(f.shape) for f in model.get_layer("middle").factors]
    assert shapes == [(5, 2), (2, 4)]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    ours, theirs = model.optimizer.variables, again.optimizer.variables
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    # The last validation saw the model with both changes.
    last = history.history["val_loss"][-1]
    np.testing.assert_allclose(again.evaluate(*data(), verbose=0)[0], last)


CONFIGURATIONS = {
    "eager": ({"run_eagerly": True}, "adam"),
    "jit": ({"jit_compile": True}, "adam"),
    "steps": ({"steps_per_execution": 2}, "adam"),
    "average": (
        {"run_eagerly": True},
        optimizers.Adam(
            use_ema=True, ema_overwrite_frequency=3, global_clipnorm=1.0
        ),
    ),
    "accumulation": (
        {},
        optimizers.SGD(
            optimizers.schedules.CosineDecay(0.05, 20),
            momentum=0.9,
            gradient_accumulation_steps=2,
        ),
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_however_the_step_is_run_the_new_variables_train(name):
    compiled, optimizer = CONFIGURATIONS[name]
    if optimizer != "adam":
        optimizer = optimizer.from_config(optimizer.get_config())
    model = make_model(optimizer, metrics=[], **compiled)
    new = []

    class Split(SplitAt):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if batch == 1:
                new.extend(values(self.model.trainable_variables))

    history = fit(model, [Split(steps={2: 2})])
    assert np.isfinite(history.history["loss"]).all()
    assert int(model.optimizer._iterations) == STEPS
    trained = values(model.trainable_variables)
    assert len(new) == len(trained) == 7
    assert not any(map(np.array_equal, new, trained))


def test_loss_scale_goes_on_under_mixed_precision(tmp_path):
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = make_model("adam", metrics=[])
        assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
        history = fit(model, [SplitAt(steps={2: 2})], epochs=2)
        assert np.isfinite(history.history["loss"]).all()
        assert int(model.optimizer.step_counter) == 2 * STEPS
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    ours, theirs = model.optimizer.variables, again.optimizer.variables
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))


class Replace(keras.callbacks.Callback):
    """Replaces variables by equal ones, with equal slots."""

    def on_train_batch_end(self, batch, logs=None):
        if batch != 1:
            return
        layer = self.model.get_layer("middle")
        slots = slots_by_variable(self.model.optimizer)
        old = {(path[-1], name): slot for (path, name), slot in slots.items()}
        factors = values(layer.factors)
        layer.split(2)
        for factor, value in zip(layer.factors, factors, strict=True):
            factor.assign(value)
        migrate_optimizer(
            self.model.optimizer,
            self.model.trainable_variables,
            lambda name, variable: old[variable.name, name],
        )
        renew_functions(self.model)


def test_a_change_that_changes_no_value_changes_no_training():
    whole, changed = (make_model(rank=2, run_eagerly=True) for _ in range(2))
    one, other = fit(whole), fit(changed, [Replace()])
    assert one.history == other.history
    for left, right in zip(whole.weights, changed.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(left), to_numpy(right))


# What `MultiOptimizer` holds is in no checkpoint of TensorFlow's anyway.
@pytest.mark.parametrize("name", ["adam", "nadam", "average", "loss_scale"])
def test_tensorflow_saves_the_optimizer_afterwards(name, tmp_path):
    model, x, y = trained(name)
    split(model, 3)
    split(model, 2)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = checkpoint.save(tmp_path / "checkpoint")
    slots, weights = slots_by_variable(model.optimizer), values(model.weights)
    step(model, x, y)
    checkpoint.restore(path).assert_consumed()
    assert_equal(slots, slots_by_variable(model.optimizer))
    for one, other in zip(weights, values(model.weights), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_saved_model_can_be_made_afterwards(tmp_path):
    model, x, _ = trained("adam")
    split(model, 2)
    tf.saved_model.save(model, tmp_path / "saved")
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(served.serve(x), model(x), atol=1e-5)


def test_the_optimizer_in_a_weights_file_fits(tmp_path):
    model, x, y = trained("adam")
    split(model, 2)
    step(model, x, y)
    model.save_weights(tmp_path / "m.weights.h5")
    again = make_model(OPTIMIZERS["adam"](), rank=2, seed=8)
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "m.weights.h5")
    for one in (model, again):
        one.optimizer.learning_rate = 0.01
        step(one, x, y)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    assert int(again.optimizer.iterations) == 6


_MIRRORED = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
sys.path.insert(0, {root!r})
from tests import test_optimizer_migration as tests
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    model = tests.make_model(
        tests.optimizers.SGD(0.1, momentum=0.9, use_ema=True), metrics=[]
    )
slots = []

class Split(tests.SplitAt):
    def on_train_batch_end(self, batch, logs=None):
        slots.append(tests.slots_by_variable(self.model.optimizer))
        super().on_train_batch_end(batch, logs)
        slots.append(tests.slots_by_variable(self.model.optimizer))

tests.fit(model, [Split(steps={{2: 2}})])
before, after = slots[2:4]
kept = {{key: before[key] for key in before if key in after}}
assert len(kept) == 10 and len(after) == 14
tests.assert_equal(kept, {{key: after[key] for key in kept}})
assert tests.to_numpy(model.optimizer.iterations) == tests.STEPS
for key, slot in after.items():
    assert not np.array_equal(slot, slots[-1][key]), key
for variable in model.trainable_variables + model.optimizer.variables:
    copies = [np.asarray(v) for v in variable.value.values]
    assert len(copies) == 2 and np.array_equal(*copies), variable.path
print("mirrored")
"""


def test_slots_are_mirrored_under_a_strategy(request):
    script = _MIRRORED.format(root=str(request.path.parent.parent))
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert "mirrored" in child.stdout, child.stderr[-3000:]
