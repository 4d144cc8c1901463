"""The callback: kernels are replaced by factors inside a running fit."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_squeeze as ks
from keras_squeeze.errors import SqueezeError
from keras_squeeze.factorizing.live_factorization import LiveFactorization
from keras_squeeze.layers.low_rank_layer import LowRankLayer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 24)).astype("float32")
Y = (X[:, :3] @ RNG.normal(size=(3, 4))).argmax(1)
LowRank = ks.callbacks.LowRankFactorization


def make_model(seed=0, **compile_arguments):
    if not compile_arguments.keys() & {"jit_compile", "steps_per_execution"}:
        # A few eager steps are cheaper than tracing one after each change.
        compile_arguments = {"run_eagerly": True, **compile_arguments}
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((24,)),
            layers.Dense(32, activation="relu", name="first"),
            layers.Dense(48, activation="relu", name="second"),
            layers.Dense(4, name="head"),
        ]
    )
    return compiled(model, **compile_arguments)


def compiled(model, optimizer="adam", **arguments):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **arguments)
    return model


def fit(model, *callbacks, epochs=3, **arguments):
    return model.fit(
        X,
        Y,
        16,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=list(callbacks),
        **arguments,
    ).history


def low_rank_layers(model):
    return {
        path: layer.ranks
        for path, layer in ks.surgery.layer_tree.walk_layers(model)
        if isinstance(layer, LowRankLayer)
    }


def index_of(model, variable):
    found = [v is variable for v in model.trainable_variables]
    return found.index(True)


def make_low_rank(model, name="second", rank=2):
    kernel = model.get_layer(name).kernel
    left = RNG.normal(size=(kernel.shape[0], rank))
    right = RNG.normal(size=(rank, kernel.shape[1]))
    kernel.assign(0.2 * left @ right)


def test_kernels_are_replaced_and_training_goes_on():
    model = make_model(metrics=["accuracy"])
    before = model.count_params()
    history = fit(model, LowRank(rank=4, begin_epoch=1), validation_split=0.25)
    # The head, 48 x 4, would gain nothing.
    assert low_rank_layers(model) == {"first": (4,), "second": (4,)}
    assert int(model.optimizer.iterations) == 9
    assert len(history["loss"]) == len(history["val_accuracy"]) == 3
    assert history["parameters"][0] == before
    assert history["parameters"][1:] == [model.count_params()] * 2
    assert history["parameters"][2] < before / 2
    assert history["effective_rank"][2] <= 4
    assert history["loss"][2] < history["loss"][0]


def test_a_kernel_of_that_rank_computes_the_same_after_the_change():
    model = make_model()
    make_low_rank(model, rank=2)
    expected = model.predict(X, verbose=0)
    LiveFactorization(model).factorize(rank=2, filters="second")
    assert low_rank_layers(model) == {"second": (2,)}
    np.testing.assert_allclose(
        model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"run_eagerly": False},
        {"steps_per_execution": 2},
        {"optimizer": keras.optimizers.SGD(0.05, 0.9, clipnorm=1.0)},
        {"optimizer": keras.optimizers.Adam(gradient_accumulation_steps=2)},
        {"optimizer": keras.optimizers.AdamW(use_ema=True)},
    ],
    ids=["jit", "graph", "executions", "clipping", "accumulation", "ema"],
)
def test_every_way_to_train(arguments):
    arguments = dict(arguments)
    if "optimizer" in arguments:
        config = keras.optimizers.serialize(arguments["optimizer"])
        arguments["optimizer"] = keras.optimizers.deserialize(config)
    model = make_model(**arguments)
    history = fit(model, LowRank(rank=4, begin_epoch=1), epochs=4)
    assert low_rank_layers(model) == {"first": (4,), "second": (4,)}
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][3] < history["loss"][0]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = make_model()
        history = fit(model, LowRank(rank=4, begin_epoch=1))
    finally:
        keras.config.set_dtype_policy("float32")
    factor = model.get_layer("second").factors[0]
    assert factor.kernel.dtype == "float32"
    assert factor.compute_dtype == policy.removeprefix("mixed_")
    assert np.isfinite(history["loss"]).all()


def test_untouched_variables_keep_their_slots_and_factors_get_projections():
    model = make_model()
    fit(model, epochs=1)
    adam = model.optimizer
    head, kernel = (
        index_of(model, model.get_layer(name).kernel)
        for name in ("head", "second")
    )
    old = [np.array(adam._momentums[head]), np.array(adam._velocities[head])]
    moment = np.array(adam._momentums[kernel])
    rate = float(adam.learning_rate)
    live = LiveFactorization(model)
    live.factorize(rank=4, filters="second")
    head = index_of(model, model.get_layer("head").kernel)
    np.testing.assert_array_equal(adam._momentums[head], old[0])
    np.testing.assert_array_equal(adam._velocities[head], old[1])
    assert int(adam.iterations) == 4
    assert float(adam.learning_rate) == rate
    reduce, expand = (f.kernel for f in model.get_layer("second").factors)
    indices = [index_of(model, v) for v in (reduce, expand)]
    projected = moment @ np.array(expand).T, np.array(reduce).T @ moment
    for index, expected in zip(indices, projected, strict=True):
        np.testing.assert_allclose(
            adam._momentums[index], expected, rtol=1e-4, atol=1e-6
        )
        assert (np.array(adam._velocities[index]) > 0).all()


def test_fresh_momenta_on_request():
    model = make_model()
    fit(model, epochs=1)
    LiveFactorization(model, carry=False).factorize(rank=4, filters="second")
    reduce = model.get_layer("second").factors[0].kernel
    index = index_of(model, reduce)
    assert not np.array(model.optimizer._momentums[index]).any()


def test_kernels_are_replaced_at_a_step():
    model, seen = make_model(), []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            len(low_rank_layers(model))
        )
    )
    fit(model, LowRank(rank=4, begin_step=6), record)
    assert seen == [0] * 5 + [2] * 7


def test_ranks_fall_by_a_schedule_in_epochs():
    model, seen = make_model(), []
    fall = ks.schedules.PolynomialDecay(0.0, 0.75, 1, 4, 1.0, unit="epochs")
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            low_rank_layers(model).get("second")
        )
    )
    history = fit(
        model,
        LowRank(rank=8, begin_epoch=1, schedule=fall),
        record,
        epochs=6,
    )
    assert seen == [None, (8,), (6,), (4,), (2,), (2,)]
    assert history["parameters"] == sorted(history["parameters"], reverse=True)
    assert history["loss"][5] < history["loss"][0]


def test_ranks_fall_within_an_epoch():
    model, seen = make_model(), []
    fall = ks.schedules.PolynomialDecay(0.0, 0.5, 2, 8, 1.0)
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            low_rank_layers(model).get("second", (0,))[0]
        )
    )
    callback = LowRank(rank=8, begin_step=2, schedule=fall, frequency=3)
    fit(model, callback, record, epochs=3)
    assert seen == [0, 8, 7, 7, 7, 5, 5, 5, 4, 4, 4, 4]


class Killed(keras.callbacks.Callback):
    """Ends a training at the end of an epoch, once."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def callbacks_with_backup(folder):
    fall = ks.schedules.PolynomialDecay(0.0, 0.5, 2, 4, 1.0, unit="epochs")
    return [
        LowRank(rank=6, begin_epoch=1, schedule=fall),
        keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False),
    ]


def test_two_of_them_keep_to_their_own_layers(tmp_path):
    def callbacks():
        fall = ks.schedules.PolynomialDecay(0.0, 0.5, 1, 2, unit="epochs")
        return [
            LowRank(rank=8, begin_epoch=0, filters="first", schedule=fall),
            LowRank(rank=6, begin_epoch=1, filters="second"),
            keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False),
        ]

    killed = make_model()
    with pytest.raises(KeyboardInterrupt):
        fit(killed, *callbacks(), Killed(), epochs=5)
    resumed = make_model()
    fit(resumed, *callbacks(), epochs=4)
    assert low_rank_layers(resumed) == {"first": (4,), "second": (6,)}


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_killed_training_ends_as_the_uninterrupted_one(tmp_path, precision):
    keras.config.set_dtype_policy(precision)
    try:
        whole = make_model()
        fit(whole, *callbacks_with_backup(tmp_path / "whole"), epochs=5)
        killed = make_model()
        backup = callbacks_with_backup(tmp_path / "killed")
        with pytest.raises(KeyboardInterrupt):
            fit(killed, *backup, Killed(), epochs=5)
        resumed = make_model(seed=1)
        backup = callbacks_with_backup(tmp_path / "killed")
        fit(resumed, *backup, epochs=5)
    finally:
        keras.config.set_dtype_policy("float32")
    assert low_rank_layers(resumed) == low_rank_layers(whole)
    for one, other in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_files_of_the_model_hold_the_factors_alone(tmp_path):
    model = make_model()
    fit(model, LowRank(rank=4, begin_epoch=1), epochs=2)
    expected = model.predict(X, verbose=0)
    model.save(tmp_path / "m.keras")
    ks.export(model, tmp_path / "m.h5")
    for path in ("m.keras", "m.h5"):
        loaded = keras.models.load_model(tmp_path / path)
        np.testing.assert_array_equal(loaded.predict(X, verbose=0), expected)
        assert low_rank_layers(loaded) == low_rank_layers(model)
    names = str(ks.inspect(tmp_path / "m.h5").rows)
    assert "second/reduce/kernel" in names
    assert "second/kernel" not in names
    plain = ks.factorizing.to_stock(model)
    np.testing.assert_allclose(
        plain.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6
    )


def test_a_regularizer_prepares_the_kernels_and_is_gone_afterwards():
    def nuclear_norm(weight):
        adam = keras.optimizers.Adam(0.02)
        model = make_model(optimizer=adam, run_eagerly=False)
        values = []
        record = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: values.append(
                np.linalg.norm(model.get_layer("second").kernel, "nuc")
            )
        )
        regularizer = ks.regularizers.NuclearNorm(weight) if weight else None
        fit(
            model,
            LowRank(rank=4, begin_epoch=4, regularizer=regularizer),
            record,
            epochs=5,
        )
        assert not model.losses
        return values[3]

    assert nuclear_norm(0.1) < 0.9 * nuclear_norm(0)


def test_the_models_own_regularizer_stays():
    model = make_model()
    own = keras.regularizers.L2(0.01)
    model.get_layer("head").kernel.regularizer = own
    regularizer = ks.regularizers.NuclearNorm(0.01)
    fit(model, LowRank(rank=4, begin_epoch=1, regularizer=regularizer))
    assert model.get_layer("head").kernel.regularizer is own


def test_a_second_fit_goes_on_with_the_factors():
    model, callback = make_model(), LowRank(rank=4, begin_epoch=1)
    fit(model, callback, epochs=2)
    layer = model.get_layer("second")
    factors = list(layer.factors)
    fit(model, callback, epochs=2)
    fit(model, LowRank(rank=4, begin_epoch=0), epochs=1)
    assert layer.factors == factors
    assert int(model.optimizer.iterations) == 20


def test_a_model_that_was_saved_after_the_change_trains_on(tmp_path):
    model = make_model()
    fit(model, LowRank(rank=4, begin_epoch=0, filters="second"), epochs=1)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    callback = LowRank(rank=4, begin_epoch=0, filters="second")
    history = fit(again, callback, epochs=2)
    assert low_rank_layers(again) == {"second": (4,)}
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(SqueezeError, match="decoder"):
        fit(again, LowRank(rank=4, begin_epoch=0, filters="decoder"))


def test_masks_move_to_the_factors():
    model = make_model()
    half = ks.callbacks.MagnitudePruning(0.5, frequency=1)
    counts = []

    def count(batch, logs):
        if low_rank_layers(model):
            factors = model.get_layer("second").factors
            kernels = [np.array(factor.kernel) for factor in factors]
            counts.append([np.mean(kernel == 0) for kernel in kernels])

    record = keras.callbacks.LambdaCallback(on_train_batch_end=count)
    history = fit(model, LowRank(rank=4, begin_epoch=1), half, record)
    assert len(counts) == 8
    np.testing.assert_allclose(counts, 0.5, atol=0.01)
    assert history["sparsity"][2] == pytest.approx(0.5, abs=0.01)


def test_subclassed_nested_and_shared_layers_and_attention():
    class Block(keras.Model):
        def __init__(self):
            super().__init__()
            self.attention = layers.MultiHeadAttention(2, 12)
            self.dense = layers.Dense(24)

        def call(self, x):
            x = keras.ops.reshape(x, (-1, 2, 12))
            x = self.attention(x, x)
            x = keras.ops.reshape(x, (-1, 24))
            return self.dense(self.dense(x))

    keras.utils.set_random_seed(0)
    model = keras.Sequential([Block(), layers.Dense(4)])
    compiled(model, run_eagerly=True)
    fit(model, LowRank(rank=3, begin_epoch=0), epochs=2)
    found = {path.rpartition("/")[2] for path in low_rank_layers(model)}
    attention = {"query", "key", "value", "attention_output"}
    assert found >= attention
    # The shared one inside, and the one behind the block.
    assert len(found - attention) == 2


_MIRRORED = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
sys.path.insert(0, {root!r})
from tests import test_low_rank_factorization as tests
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = tests.make_model(run_eagerly=False)
tests.fit(model, tests.LowRank(rank=4, begin_epoch=1), epochs=2)
assert len(tests.low_rank_layers(model)) == 2
for variable in model.trainable_variables + model.optimizer.variables:
    copies = [np.asarray(v) for v in variable.value.values]
    assert len(copies) == 2 and np.array_equal(*copies), variable.path
print("mirrored")
"""


def test_factors_are_mirrored_under_a_strategy(request):
    script = _MIRRORED.format(root=str(request.path.parent.parent))
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert "mirrored" in child.stdout, child.stderr[-3000:]


def test_layers_without_gain_are_kept_and_said(capsys):
    model = make_model()
    fit(model, LowRank(rank=4, begin_epoch=1, verbose=1, min_saving=0.75))
    assert low_rank_layers(model) == {"second": (4,)}
    output = capsys.readouterr().out
    assert "second: svd, rank 4, 320 parameters instead of 1,536" in output
    assert "head: kept, " in output


def test_what_stands_before_it_is_warned_of(tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.warns(UserWarning, match="put it before BackupAndRestore"):
        fit(make_model(), backup, LowRank(rank=4, begin_epoch=0), epochs=1)


def test_weights_kept_from_before_the_change_are_warned_of():
    stopping = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    with pytest.warns(UserWarning, match="start_from_epoch"):
        fit(make_model(), LowRank(rank=4, begin_epoch=1), stopping, epochs=2)


def test_a_training_that_ends_before_the_change_is_warned_of():
    with pytest.warns(UserWarning, match="before kernels were to be replaced"):
        fit(make_model(), LowRank(rank=4, begin_epoch=9), epochs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 4, "energy": 0.9}, "one of `rank`, `energy` and `budget`"),
        ({"energy": 0.0}, "Received"),
        ({"energy": 1.5}, "Received"),
        ({"rank": 0}, "Received"),
        ({"method": "qr"}, "qr"),
        ({"begin_epoch": -1}, "begin_epoch=-1"),
        ({"begin_epoch": None}, "begin_epoch=None"),
        ({"begin_step": 1.5}, "begin_step=1.5"),
        ({"frequency": 0}, "frequency=0"),
        ({"moments": "zero"}, "moments='zero'"),
        ({"min_saving": 1.0}, "min_saving"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(SqueezeError, match=message):
        LowRank(**arguments)


def test_a_rank_above_the_full_one_and_a_budget_that_cannot_be_met():
    model = make_model()
    expected = model.get_weights()
    with pytest.raises(SqueezeError, match="smallest"):
        fit(model, LowRank(budget={"parameters": 10}, begin_epoch=0), epochs=1)
    for one, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_layer_matched_names_the_candidates():
    with pytest.raises(SqueezeError, match="second"):
        fit(make_model(), LowRank(rank=4, begin_epoch=0, filters="decoder"))
