"""Pruning by the driver, in loops of one's own, and once."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_squeeze as ks
from keras_squeeze.callbacks import Pruning
from keras_squeeze.errors import NoKernelMatchedError, SqueezeError
from keras_squeeze.masking import Pruner, apply
from keras_squeeze.masking.optimizer_slots import find_slots
from keras_squeeze.schedules import (
    ConstantSparsity,
    OneShot,
    PolynomialDecay,
)
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy


def make_model(*stack, shape=(12,), compiled=True):
    keras.utils.set_random_seed(3)
    stack = stack or (
        layers.Dense(8, activation="relu", name="hidden"),
        layers.Dense(3, activation="softmax", name="head"),
    )
    model = keras.Sequential([keras.Input(shape), *stack])
    if compiled:
        model.compile("adam", "sparse_categorical_crossentropy")
    return model


def data(samples=16, shape=(12,)):
    rng = np.random.default_rng(0)
    x = rng.random((samples, *shape), dtype=np.float32)
    return x, rng.integers(0, 3, samples)


def zero_shares(model):
    kernels = find_kernels(model)
    return {
        kernel.path: float(np.mean(to_numpy(kernel.variable) == 0))
        for kernel in kernels
    }


def train(model, optimizer, gradients=None):
    """One step of a loop of one's own, run eagerly."""
    import tensorflow as tf

    x, y = data()
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy()(
            y, model(x, training=True)
        )
    found = tape.gradient(loss, model.trainable_weights)
    optimizer.apply(found, model.trainable_weights)
    if gradients is not None:
        gradients.append([np.asarray(g) for g in found])


def test_both_are_found_where_users_look():
    assert ks.pruning.Pruner is Pruner
    assert ks.pruning.apply is apply


@pytest.mark.parametrize("regrowth", [None, "splicing", "rigl", "set"])
def test_the_driver_prunes_in_a_loop_of_ones_own(regrowth):
    model = make_model(compiled=False)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    schedule = PolynomialDecay(0.25, 0.75, 0, 6)
    arguments = {"frequency": 2, "optimizer": optimizer, "regrowth": regrowth}
    with Pruner(model, schedule, **arguments) as pruner:
        changes = []
        for _ in range(9):
            train(model, optimizer)
            before = pruner.masks
            pruner.after_batch()
            for path, keep in pruner.masks.items():
                variable = dict(
                    (kernel.path, kernel.variable) for kernel in pruner.kernels
                )[path]
                weights = to_numpy(variable)
                assert not np.any(weights[~keep])
                share = schedule(pruner.updated_at)
                pruned = np.count_nonzero(~keep)
                assert pruned == round(share * keep.size)
            grown = [np.any(pruner.masks[p] & ~before[p]) for p in before]
            changes.append(any(grown))
        assert pruner.updated_at == 6
        assert not any(changes[6:])
    if regrowth in ("rigl", "set"):
        assert any(changes[:6])
    if regrowth is None:
        assert not any(changes)
    assert zero_shares(model) == {"hidden/kernel": 0.75, "head/kernel": 0.75}
    assert "update_step" not in vars(optimizer)
    assert model.layers[0].kernel.constraint is None


def test_a_criterion_of_gradients_ranks_by_the_mean_of_the_steps():
    model = make_model(compiled=False)
    optimizer = keras.optimizers.SGD(0.01)
    gradients = []
    schedule = OneShot(0.5, begin_step=3)
    pruner = Pruner(model, schedule, "gradient_l1", optimizer=optimizer)
    pruner.begin()
    for _ in range(3):
        assert pruner.masks["head/kernel"].all()
        train(model, optimizer, gradients)
        pruner.after_batch()
    for kernel, path in ((0, "hidden/kernel"), (2, "head/kernel")):
        mean = np.mean([np.abs(step[kernel]) for step in gradients], axis=0)
        keep = pruner.masks[path]
        assert np.count_nonzero(keep) == keep.size // 2
        assert mean[keep].min() >= mean[~keep].max()
    pruner.finish()


def test_regrown_weights_start_without_momentum():
    model = make_model(compiled=False)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    schedule = ConstantSparsity(0.5, end_step=6)
    pruner = Pruner(
        model, schedule, regrowth="set", frequency=3, optimizer=optimizer
    )
    pruner.begin()
    (kernel, *_) = pruner.kernels
    seen = 0
    for _ in range(5):
        train(model, optimizer)
        before = pruner.masks[kernel.path]
        pruner.after_batch()
        grown = pruner.masks[kernel.path] & ~before
        (slot,) = find_slots(optimizer, kernel.variable)
        seen += np.count_nonzero(grown)
        assert not np.any(to_numpy(slot)[grown])
        assert not np.any(to_numpy(kernel.variable)[grown])
    assert seen


def test_the_momentum_of_muon_is_cleared_under_the_mask():
    model = make_model(compiled=False)
    optimizer = keras.optimizers.Muon(0.01)
    with Pruner(model, 0.5, frequency=1, optimizer=optimizer) as pruner:
        for _ in range(2):
            train(model, optimizer)
            pruner.after_batch()
            for kernel in pruner.kernels:
                keep = pruner.masks[kernel.path]
                for slot in find_slots(optimizer, kernel.variable):
                    assert not np.any(to_numpy(slot)[~keep])


def test_a_loop_without_gradients_is_refused():
    model = make_model(compiled=False)
    optimizer = keras.optimizers.SGD(0.1)
    pruner = Pruner(model, 0.5, criterion="taylor", optimizer=optimizer)
    pruner.begin()
    optimizer.iterations.assign(1)
    with pytest.raises(SqueezeError, match=r"gradient.*hidden/kernel, head"):
        pruner.after_batch()
    pruner.finish()
    with pytest.raises(SqueezeError, match="Expected an optimizer"):
        Pruner(model, 0.5, criterion="taylor").begin()


def test_bad_arguments_of_the_driver_are_named():
    model = make_model()
    schedule = PolynomialDecay(0.0, 0.5, 0, 2, unit="epochs")
    with pytest.raises(SqueezeError, match=r"`steps_per_epoch`.*=None$"):
        Pruner(model, schedule)
    with pytest.raises(SqueezeError, match=r"`seed`.*Received: -1"):
        Pruner(model, 0.5, seed=-1)
    with pytest.raises(SqueezeError, match="regrowth"):
        Pruner(model, 0.5, regrowth="lottery")
    with pytest.raises(SqueezeError, match="RigL"):
        Pruner(model, 0.5, pattern="channel", regrowth="rigl")
    with pytest.raises(SqueezeError, match=r"hidden/kernel.*'conv'"):
        Pruner(model, 0.5, allocation={"conv": 0.5}).begin()
    with pytest.raises(NoKernelMatchedError):
        Pruner(model, 0.5, filters="tail").begin()
    unbuilt = keras.Sequential([layers.Dense(2)])
    with pytest.raises(SqueezeError, match="built"):
        Pruner(unbuilt, 0.5).begin()


def test_a_pattern_that_does_not_fit_is_refused_before_training():
    model = make_model()
    schedule = OneShot(0.5, begin_step=1000)
    pattern = {"class_name": "block", "config": {"block_shape": [5, 5]}}
    pruner = Pruner(model, schedule, pattern=pattern)
    with pytest.raises(
        SqueezeError, match=r"^head/kernel: .*axis 1 has size 3"
    ):
        pruner.begin()
    assert not pruner.is_attached
    assert model.layers[0].kernel.constraint is None


def normalized_model():
    model = make_model(
        layers.Conv2D(8, 3, name="scaled"),
        layers.BatchNormalization(name="norm"),
        layers.Flatten(),
        layers.Dense(3, activation="softmax", name="head"),
        shape=(5, 5, 2),
    )
    gamma = np.array([0.1, 2, -0.2, 3, 0.3, 4, 5, -6], "float32")
    model.get_layer("norm").gamma.assign(gamma)
    return model


def test_channels_go_by_the_scale_of_the_normalization():
    model = normalized_model()
    with pytest.warns(UserWarning, match="head/kernel"):
        report = apply(model, 0.5, "batch_norm_scale", "channel")
    kernel = model.get_layer("scaled").get_weights()[0]
    empty = ~kernel.any(axis=(0, 1, 2))
    np.testing.assert_array_equal(np.flatnonzero(empty), [0, 1, 2, 4])
    assert [row["layer"] for row in report.rows] == ["scaled/kernel"]
    assert report.skipped[0]["path"] == "head/kernel"


ONCE = {
    "magnitude": {},
    "global": {"allocation": "global", "criterion": "weight_l2"},
    "n_of_m": {"pattern": "n_of_m"},
    "taylor": {"criterion": "taylor"},
    "activation": {"criterion": "activation", "pattern": "n_of_m"},
    "random": {"criterion": {"class_name": "random", "config": {"seed": 5}}},
}


@pytest.mark.parametrize("name", ONCE)
def test_apply_prunes_once_and_reports(name):
    model = make_model(layers.Dense(8, name="hidden"), layers.Dense(4))
    model.layers[0].trainable = False
    before = [np.array(w) for w in model.get_weights()]
    report = apply(model, 0.5, data=data(), **ONCE[name])
    after = model.get_weights()
    size = sum(w.size for w in before[::2])
    zeros = sum(np.count_nonzero(w == 0) for w in after[::2])
    assert zeros == size // 2
    assert report.totals["sparsity"] == 0.5
    assert report.totals["nonzero"] == size - zeros
    assert str(report).startswith("Pruned ")
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[new != 0], old[new != 0])
    assert "call" not in vars(model.layers[0])


def test_apply_by_gradients_is_the_gradient_of_the_data():
    model = make_model()
    weights = model.layers[1].get_weights()[0].copy()
    gradients = []

    class Recorder(keras.optimizers.SGD):
        def apply(self, grads, variables):
            gradients.extend(np.asarray(g) for g in grads)

    train(make_model(compiled=False), Recorder())
    apply(model, 0.5, "taylor", data=data(), filters="head")
    saliency = np.abs(weights * gradients[2])
    kept = model.layers[1].get_weights()[0] != 0
    assert saliency[kept].min() >= saliency[~kept].max()


def test_apply_keeps_zeros_and_goes_on_from_them():
    model = make_model()
    apply(model, 0.25)
    first = model.layers[0].get_weights()[0] == 0
    apply(model, 0.5, criterion="gradient_l1", data=data())
    second = model.layers[0].get_weights()[0] == 0
    assert np.all(second[first])
    assert np.mean(second) == 0.5


def test_a_layer_that_would_be_empty_keeps_one_weight():
    model = make_model()
    report = apply(model, 0.999, filters="head")
    (row,) = report.rows
    assert row["note"] == "one weight kept"
    assert np.count_nonzero(model.layers[1].get_weights()[0]) == 1
    report = apply(make_model(), 0.99, pattern="channel", filters="head")
    assert report.rows[0]["note"] == "one group kept"
    assert apply(make_model(), 0.5).rows[0]["note"] == ""


REFUSED = {
    "no data": ({"criterion": "taylor"}, r"data=\(x, y\).*data=None"),
    "no labels": (
        {"criterion": "taylor", "data": (data()[0], None)},
        "compiled with a loss",
    ),
    "no samples": (
        {"criterion": "activation", "data": (np.zeros((0, 12)), None)},
        "at least one sample",
    ),
    "sparsity": ({"sparsity": 1.0}, r"in \[0, 1\)"),
    "type": ({"sparsity": "half"}, "Received: 'half'"),
    "pattern": (
        {"pattern": {"class_name": "block", "config": {"block_shape": [5, 5]}}},
        "head/kernel: .*axis 1",
    ),
    "allocation": ({"allocation": {"conv": 0.5}}, "hidden/kernel"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_apply_refuses_and_changes_nothing(name):
    arguments, message = REFUSED[name]
    model = make_model()
    before = model.get_weights()
    with pytest.raises(SqueezeError, match=message):
        apply(model, **{"sparsity": 0.5, **arguments})
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert "call" not in vars(model.layers[0])


class OwnStep(keras.Model):
    """Its training step changes weights without the optimizer."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)

    def train_step(self, data):
        for weight in self.trainable_weights:
            weight.assign(weight * 0.9)
        return {"loss": 0.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"criterion": "taylor"},
            r"gradient_times_weight.*dense.*/kernel, from step 0 to 1",
        ),
        ({"regrowth": "splicing"}, "by its optimizer's `apply`"),
    ],
)
def test_a_train_step_without_the_optimizer_is_refused(arguments, message):
    model = OwnStep()
    model(np.zeros((1, 12), "float32"))
    model.compile("adam", "mse", run_eagerly=True)
    pruning = Pruning(0.5, frequency=1, **arguments)
    if "regrowth" in arguments:
        # Weights that are pruned already would not show it.
        model.train_step = lambda data: (
            [w.assign_add(0.1 * np.ones(w.shape)) for w in model.weights],
            {"loss": 0.0},
        )[1]
    with pytest.raises(SqueezeError, match=message):
        model.fit(*data(), verbose=0, callbacks=[pruning])


class Saliency:
    """A criterion of what comes from gradients and from inputs."""

    statistics = ("gradient_l1", "activation")

    def scores(self, kernel, **statistics):
        return statistics["gradient_l1"] * statistics["activation"]


def fit_once(**compile_arguments):
    model = make_model()
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(0.1), loss, **compile_arguments)
    pruning = Pruning(0.5, criterion=Saliency(), frequency=4)
    x, y = data()
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0}
    model.fit(x, y, callbacks=[pruning], **arguments)
    return [w != 0 for w in model.get_weights()[::2]]


def test_what_is_gathered_is_the_same_however_the_step_is_run():
    eager = fit_once(run_eagerly=True)
    several = fit_once(steps_per_execution=2)
    compiled = fit_once(jit_compile=True)
    for one, two, three in zip(eager, several, compiled, strict=True):
        assert np.mean(one) == np.mean(two) == np.mean(three) == 0.5
        # Under `steps_per_execution` the first mask is one step later; and
        # sums are rounded differently, so that a tie may end otherwise.
        assert np.mean(one == three) > 0.9


def test_an_evaluation_between_steps_is_not_gathered():
    model = make_model()
    pruning = Pruning(OneShot(0.5, begin_step=10**6), criterion="activation")
    sums = []

    class Read(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            statistics = pruning.pruner._masked.statistics
            sums.append(statistics.read()[0]["activation"].copy())

        def on_epoch_end(self, epoch, logs=None):
            statistics = pruning.pruner._masked.statistics
            sums.append(statistics.read()[0]["activation"].copy())

    x, y = data()
    held_out = (100 * x, y)
    model.fit(
        x,
        y,
        batch_size=16,
        verbose=0,
        validation_data=held_out,
        callbacks=[pruning, Read()],
    )
    np.testing.assert_array_equal(sums[0], sums[1])
    np.testing.assert_allclose(
        sums[0].ravel(), np.sqrt(np.mean(x**2, axis=0)), rtol=1e-5
    )


def test_a_callback_without_a_training_is_refused():
    with pytest.raises(SqueezeError, match="on_train_begin"):
        Pruning(0.5).on_train_batch_end(0)
