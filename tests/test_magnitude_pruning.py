import contextlib
import io
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_squeeze.callbacks import MagnitudePruning
from keras_squeeze.constraints import MaskConstraint
from keras_squeeze.errors import NoKernelMatchedError, SqueezeError
from keras_squeeze.schedules import (
    ConstantSparsity,
    PolynomialDecay,
    last_update_step,
)
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy

SAMPLES, BATCH, STEPS = 96, 8, 12
RAMP = PolynomialDecay(0.2, 0.8, begin_step=0, end_step=10)


def features(*shape):
    rng = np.random.default_rng(0)
    shape = shape or (72,)
    return rng.random((SAMPLES, *shape), dtype=np.float32)


def labels():
    return np.random.default_rng(1).integers(0, 3, SAMPLES)


def make_model(compile_args=None, optimizer="adam"):
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((72,)),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(3, activation="softmax", name="head"),
        ]
    )
    return compiled(model, optimizer, **(compile_args or {}))


def compiled(model, optimizer="adam", **compile_args):
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizer, loss=loss, **compile_args)
    return model


class Witness(keras.callbacks.Callback):
    """Counts, after every batch, the zeros there are and there should be."""

    def __init__(self, schedule, frequency, filters=None):
        super().__init__()
        self.schedule, self.frequency = schedule, frequency
        self.filters = filters
        self.seen, self.batches = [], 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        due = last_update_step(self.schedule, step, self.frequency)
        sparsity = self.schedule(due) if due is not None else 0.0
        for kernel in find_kernels(self.model, self.filters):
            weights = to_numpy(kernel.variable)
            expected = round(sparsity * weights.size)
            self.seen.append((kernel.path, step, zeros(weights), expected))

    @property
    def failures(self):
        return [entry for entry in self.seen if entry[2] != entry[3]]


def zeros(array):
    return array.size - np.count_nonzero(array)


def prune(model, x=None, schedule=RAMP, frequency=3, filters=None, **fit_args):
    """Fits with the callback and checks the zeros after every batch."""
    pruning = MagnitudePruning(schedule, filters=filters, frequency=frequency)
    witness = Witness(pruning.schedule, frequency, filters)
    fit_args = {"epochs": 1, "batch_size": BATCH, "verbose": 0, **fit_args}
    fit_args.setdefault("y", labels())
    x = features() if x is None else x
    history = model.fit(x, callbacks=[pruning, witness], **fit_args)
    assert witness.failures == []
    assert witness.seen
    check_final(model, pruning, filters, witness.seen[-1][1])
    return history, witness


def check_final(model, pruning, filters=None, step=STEPS):
    sparsity = pruning.schedule(step)
    for kernel in find_kernels(model, filters):
        weights = to_numpy(kernel.variable)
        assert zeros(weights) == round(sparsity * weights.size), kernel.path
        assert not isinstance(kernel.variable.constraint, MaskConstraint)


COMPILE_ARGS = {
    "graph": {},
    "xla": {"jit_compile": True},
    "eager": {"run_eagerly": True},
    "steps_per_execution": {"steps_per_execution": 4},
}


@pytest.mark.parametrize("mode", COMPILE_ARGS)
def test_masks_hold_after_every_batch(mode):
    history, witness = prune(make_model(COMPILE_ARGS[mode]))
    assert witness.batches == (3 if mode == "steps_per_execution" else STEPS)
    assert len(history.history["sparsity"]) == 1


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "weight_decay": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "clipping": lambda: keras.optimizers.RMSprop(0.01, global_clipnorm=0.1),
    "average": lambda: keras.optimizers.Adam(0.01, use_ema=True),
    "overwriting_average": lambda: keras.optimizers.Adam(
        0.01, use_ema=True, ema_overwrite_frequency=2
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masks_hold_under_optimizers(name):
    prune(make_model(optimizer=OPTIMIZERS[name]()))


def test_masks_hold_under_gradient_accumulation():
    optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
    model = make_model(optimizer=optimizer)
    prune(model, epochs=2)
    assert int(optimizer.iterations) == STEPS


@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"]
)
def test_masks_hold_under_dtype_policies(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = make_model(optimizer=keras.optimizers.SGD(0.1))
        # Loss scaling skips its first steps, so that more are needed.
        epochs = 3 if policy == "mixed_float16" else 1
        prune(model, epochs=epochs)
    finally:
        keras.config.set_dtype_policy(before)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(8, activation="relu"), layers.Dense(8)]
        self.head = layers.Dense(3, activation="softmax")

    def call(self, inputs):
        outputs = inputs
        for block in self.blocks:
            outputs = block(outputs)
        return self.head(outputs)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_unbuilt_model_is_pruned_after_its_first_batch(jit_compile):
    model = compiled(Subclassed(), jit_compile=jit_compile)
    assert not model.built
    prune(model, features())


def test_an_unbuilt_sequential_model_is_pruned():
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(8), layers.Dense(3, "softmax")]
    prune(compiled(keras.Sequential(stack)))


def sequence_model(*stack):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 12))
    outputs = inputs
    for layer in stack:
        outputs = layer(outputs)
    outputs = layers.Dense(3, activation="softmax")(outputs)
    return compiled(keras.Model(inputs, outputs))


def attention_model():
    inputs = keras.Input((6, 12))
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    pooled = layers.GlobalAveragePooling1D()(attention(inputs, inputs))
    outputs = layers.Dense(3, activation="softmax")(pooled)
    return compiled(keras.Model(inputs, outputs))


def nested_model_with_shared_layer():
    shared = layers.Dense(12, name="shared")
    inner = keras.Sequential([keras.Input((6, 12)), shared], name="inner")
    inputs = keras.Input((6, 12))
    outputs = layers.Flatten()(shared(inner(inner(inputs))))
    outputs = layers.Dense(3, activation="softmax")(outputs)
    return compiled(keras.Model(inputs, outputs))


SEQUENCE_MODELS = {
    "attention": attention_model,
    "nested_shared": nested_model_with_shared_layer,
    "lstm": lambda: sequence_model(layers.LSTM(5)),
    "bidirectional": lambda: sequence_model(
        layers.Bidirectional(layers.GRU(4))
    ),
    "separable": lambda: sequence_model(
        layers.Reshape((6, 6, 2)),
        layers.SeparableConv2D(16, 3),
        layers.DepthwiseConv2D(3),
        layers.Flatten(),
    ),
}


@pytest.mark.parametrize("name", SEQUENCE_MODELS)
def test_masks_hold_in_layers(name):
    model = SEQUENCE_MODELS[name]()
    prune(model, features(6, 12))
    pruned = {id(kernel.variable) for kernel in find_kernels(model)}
    others = [w for w in model.trainable_weights if id(w) not in pruned]
    assert others
    assert all(np.any(to_numpy(weight) != 0) for weight in others)


def test_masks_hold_in_embeddings():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(20, 6),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    tokens = np.random.default_rng(0).integers(0, 20, (SAMPLES, 4))
    prune(compiled(model), tokens)


def convolutional_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(16, 3),
            layers.BatchNormalization(name="norm"),
            layers.Conv2DTranspose(16, 3),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", name="head"),
        ]
    )
    return compiled(model)


def test_biases_and_normalization_are_not_touched():
    model = convolutional_model()
    prune(model, features(6, 6, 2), schedule=0.9, frequency=1)
    assert np.all(model.get_layer("norm").get_weights()[0] != 0)
    assert np.all(model.get_layer("head").get_weights()[1] != 0)


@pytest.mark.parametrize(
    "filters", ["^head/", lambda layer: layer.name == "head"]
)
def test_filters_choose_the_kernels(filters):
    model = make_model()
    prune(model, filters=filters)
    assert np.all(model.get_layer("hidden").get_weights()[0] != 0)


def test_a_mask_without_zeros_changes_no_bit():
    plain, masked = make_model(), make_model()
    args = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    plain.fit(features(), labels(), **args)
    pruning = MagnitudePruning(ConstantSparsity(0.5, begin_step=10**6))
    masked.fit(features(), labels(), callbacks=[pruning], **args)
    for one, other in zip(
        plain.get_weights(), masked.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_kernels_that_are_not_trainable_are_left_alone():
    model = make_model()
    model.get_layer("hidden").trainable = False
    compiled(model)
    before = model.get_layer("hidden").get_weights()[0]
    prune(model, filters="head")
    pruning = MagnitudePruning(0.5)
    model.fit(features(), labels(), verbose=0, callbacks=[pruning])
    np.testing.assert_array_equal(
        model.get_layer("hidden").get_weights()[0], before
    )


def test_the_users_constraint_is_kept_and_put_back():
    keras.utils.set_random_seed(0)
    constraint = keras.constraints.MaxNorm(0.1)
    layer = layers.Dense(
        3, activation="softmax", kernel_constraint=constraint, name="head"
    )
    model = keras.Sequential([keras.Input((72,)), layer])
    prune(compiled(model, keras.optimizers.SGD(1.0)))
    assert layer.kernel.constraint is constraint
    norms = np.linalg.norm(layer.get_weights()[0], axis=0)
    assert np.all(norms <= 0.1 + 1e-6)


def test_a_second_fit_is_masked_too_and_the_third_is_free():
    model = make_model()
    prune(model, schedule=0.5)
    prune(model, schedule=0.8, frequency=1)
    model.fit(features(), labels(), batch_size=BATCH, verbose=0)
    assert zeros(model.get_layer("head").get_weights()[0]) == 0


def test_nothing_of_the_mask_is_saved(tmp_path):
    model = make_model()
    config, variables = model.get_config(), len(model.variables)
    path = tmp_path / "model.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(path)
    args = {"batch_size": BATCH, "verbose": 0}
    pruning = MagnitudePruning(RAMP, frequency=3)
    model.fit(features(), labels(), callbacks=[pruning, checkpoint], **args)
    again = keras.models.load_model(path)
    assert model.get_config() == config
    assert "Mask" not in again.to_json()
    assert len(again.variables) == variables
    # Two moments a weight, the step and the learning rate.
    assert len(again.optimizer.variables) == 2 * variables + 2
    assert zeros(again.get_layer("head").get_weights()[0]) == round(0.8 * 48)


class OwnStep(keras.Model):
    """A model of one Dense layer whose training step is its own."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)
        self.build((None, 72))

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)

    def gradients(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x) - tf.one_hot(y, 3)) ** 2)
        return loss, tape.gradient(loss, self.trainable_weights)


class OptimizerStep(OwnStep):
    def train_step(self, data):
        loss, gradients = self.gradients(data)
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_weights, strict=True)
        )
        return {"loss": loss}


class BareStep(OwnStep):
    def train_step(self, data):
        loss, gradients = self.gradients(data)
        for weight, gradient in zip(
            self.trainable_weights, gradients, strict=True
        ):
            weight.assign_sub(0.1 * gradient)
        return {"loss": loss}


class BareStepThatCounts(BareStep):
    def train_step(self, data):
        logs = super().train_step(data)
        self.optimizer.iterations.assign_add(1)
        return logs


def test_masks_hold_in_a_train_step_that_uses_the_optimizer():
    model = OptimizerStep()
    model.compile("adam")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        prune(model, features())


def test_masks_hold_in_a_train_step_without_the_optimizer():
    model = BareStepThatCounts()
    model.compile("adam")
    with pytest.warns(UserWarning, match="without its optimizer's `apply`"):
        prune(model, features())


@pytest.mark.parametrize("optimizer", ["adam", None])
def test_batches_are_counted_where_the_optimizer_stands_still(optimizer):
    model = BareStep()
    model.compile(optimizer)
    schedule = PolynomialDecay(0.0, 0.8, 0, 10)
    pruning = MagnitudePruning(schedule, frequency=3)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        x = features()
        args = {"batch_size": BATCH, "verbose": 0}
        model.fit(x, labels(), callbacks=[pruning], **args)
    check_final(model, pruning)


class ThreeSteps(OptimizerStep):
    def train_step(self, data):
        super().train_step(data)
        super().train_step(data)
        return super().train_step(data)


def test_updates_come_in_time_where_a_batch_makes_three_steps():
    model = ThreeSteps()
    model.compile("adam")
    schedule = PolynomialDecay(0.2, 0.8, begin_step=6, end_step=30)
    prune(model, features(), schedule=schedule, frequency=6)
    assert int(model.optimizer.iterations) == 3 * STEPS


def test_a_long_wait_for_the_first_update_ends_in_time():
    schedule = PolynomialDecay(0.2, 0.8, begin_step=31, end_step=33)
    prune(make_model(), schedule=schedule, epochs=4)


def test_masks_hold_in_a_loop_of_ones_own():
    import tensorflow as tf

    model = OwnStep()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    pruning = MagnitudePruning(RAMP, frequency=3)
    pruning.set_model(model)
    pruning.on_train_begin()
    x = features()
    step = tf.function(
        lambda x, y: optimizer.apply(
            model.gradients((x, y))[1], model.trainable_weights
        )
    )
    for batch in range(STEPS):
        pruning.on_train_batch_begin(batch)
        step(x[:BATCH], labels()[:BATCH])
        pruning.on_train_batch_end(batch)
        due = last_update_step(RAMP, batch + 1, 3)
        kernel = to_numpy(model.dense.kernel)
        assert zeros(kernel) == round(RAMP(due) * kernel.size)
    pruning.on_train_end()
    check_final(model, pruning)


class Crash(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def fit_with_backup(model, folder, crash_at=None):
    pruning = MagnitudePruning(PolynomialDecay(0.0, 0.8, 2, 40), frequency=7)
    callbacks = [pruning, keras.callbacks.BackupAndRestore(folder)]
    if crash_at is not None:
        callbacks.append(Crash(crash_at))
    args = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    with contextlib.suppress(KeyboardInterrupt):
        model.fit(features(), labels(), epochs=4, callbacks=callbacks, **args)


def test_a_resumed_training_equals_the_uninterrupted(tmp_path):
    whole, crashed, resumed = make_model(), make_model(), make_model()
    fit_with_backup(whole, tmp_path / "whole")
    fit_with_backup(crashed, tmp_path / "crashed", crash_at=2)
    for weight in resumed.trainable_weights:
        weight.assign(np.ones(weight.shape))
    fit_with_backup(resumed, tmp_path / "crashed")
    assert int(resumed.optimizer.iterations) == 4 * STEPS
    for one, other in zip(
        whole.get_weights(), resumed.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_masks_left_by_an_interruption_are_replaced():
    model = make_model()
    constraint = keras.constraints.MaxNorm(9.0)
    model.get_layer("head").kernel.constraint = constraint
    for callback in (MagnitudePruning(0.9), MagnitudePruning(0.9)):
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(
                features(), labels(), verbose=0, callbacks=[callback, Crash(0)]
            )
    prune(model, schedule=0.5, frequency=1)
    assert model.get_layer("head").kernel.constraint is constraint


def test_two_callbacks_share_a_model():
    model = make_model()
    head = MagnitudePruning(0.75, filters="head", frequency=1)
    hidden = MagnitudePruning(0.25, filters="hidden", frequency=1)
    history = model.fit(
        features(), labels(), verbose=0, callbacks=[head, hidden]
    )
    kernels = [model.get_layer(n).get_weights()[0] for n in ("head", "hidden")]
    assert [zeros(k) / k.size for k in kernels] == [0.75, 0.25]
    overall = sum(zeros(k) for k in kernels) / sum(k.size for k in kernels)
    assert history.history["sparsity"] == [pytest.approx(overall)]


def test_two_callbacks_on_one_kernel_are_refused():
    model = make_model()
    callbacks = [MagnitudePruning(0.5), MagnitudePruning(0.5, filters="hidden")]
    with pytest.raises(
        SqueezeError, match=r"one pruning callback.*hidden/kernel"
    ):
        model.fit(features(), labels(), verbose=0, callbacks=callbacks)


def test_slots_are_cleared_where_weights_grow_back():
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model = make_model(optimizer=optimizer)
    falling = PolynomialDecay(0.8, 0.2, 0, 6)
    momenta = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernel = model.get_layer("head").kernel
            index = optimizer._get_variable_index(kernel)
            slot = to_numpy(optimizer.momentums[index])
            momenta.append(int(np.count_nonzero(slot == 0)))

    pruning = MagnitudePruning(falling, frequency=3)
    model.fit(
        features(),
        labels(),
        batch_size=BATCH,
        verbose=0,
        callbacks=[pruning, Watch()],
    )
    grown = round(0.8 * 48) - round(falling(3) * 48)
    # Units that never fire have no momentum to begin with.
    assert momenta[0] == momenta[1] < grown <= momenta[2]


def test_a_late_start_warns_and_says_how_to_shift():
    model = make_model()
    model.fit(features(), labels(), batch_size=BATCH, verbose=0)
    with pytest.warns(UserWarning, match=r"is 12.*of 0\.8.*applies at once"):
        prune(model)


@pytest.mark.parametrize("schedule", [0.8, PolynomialDecay(0.0, 0.8, 12, 20)])
def test_a_constant_or_shifted_start_does_not_warn(schedule):
    model = make_model()
    model.fit(features(), labels(), batch_size=BATCH, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pruning = MagnitudePruning(schedule, frequency=3)
        model.fit(features(), labels(), verbose=0, callbacks=[pruning])


def test_sparsity_reaches_the_history_and_other_callbacks():
    model = make_model()
    schedule = PolynomialDecay(0.0, 0.8, 0, 24)
    history, _ = prune(model, schedule=schedule, epochs=2)
    size = sum(to_numpy(k.variable).size for k in find_kernels(model))
    logged = history.history["sparsity"]
    assert logged[0] == pytest.approx(schedule(12), abs=2 / size)
    assert logged[1] == pytest.approx(0.8, abs=2 / size)


def test_verbose_prints_a_line_for_each_change():
    stream = io.StringIO()
    pruning = MagnitudePruning(RAMP, frequency=6, verbose=1)
    with contextlib.redirect_stdout(stream):
        args = {"batch_size": BATCH, "verbose": 0}
        make_model().fit(features(), labels(), callbacks=[pruning], **args)
    assert stream.getvalue().split("\n") == [
        "",
        "Step 0: MagnitudePruning setting sparsity to 0.2.",
        "",
        f"Step 6: MagnitudePruning setting sparsity to {RAMP(6):.4g}.",
        "",
        "Step 10: MagnitudePruning setting sparsity to 0.8.",
        "",
    ]


class ByIndex:
    """A criterion under which the last weights matter least."""

    def scores(self, kernel, gradient=None, activation=None):
        return -np.arange(kernel.size, dtype=float).reshape(kernel.shape)


def test_criteria_and_patterns_are_used():
    model = make_model()
    pruning = MagnitudePruning(0.5, criterion=ByIndex(), frequency=4)
    model.fit(features(), labels(), verbose=0, callbacks=[pruning])
    kernel = model.get_layer("head").get_weights()[0].ravel()
    assert np.all(kernel[:24] != 0)
    assert np.all(kernel[24:] == 0)


class PairSchedule:
    begin_step, end_step, frequency = 0, -1, 5

    def __call__(self, step):
        return True, 0.5


def test_a_schedule_that_has_a_frequency_keeps_it():
    assert MagnitudePruning(PairSchedule(), frequency=100).frequency == 5
    assert MagnitudePruning(0.5, frequency=100).frequency == 100


_MIRRORED = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
import sys
sys.path.insert(0, {tests!r})
import test_magnitude_pruning as tests
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = tests.make_model()
assert strategy.num_replicas_in_sync == 2
tests.prune(model)
kernel = model.get_layer("head").kernel
copies = [np.asarray(v) for v in kernel.value.values]
assert len(copies) == 2 and np.array_equal(*copies)
print("mirrored")
"""


def test_masks_hold_under_mirrored_strategy(request):
    script = _MIRRORED.format(tests=str(request.path.parent))
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert "mirrored" in child.stdout, child.stderr[-3000:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": 1.0}, r"in \[0, 1\)\. Received: 1\.0$"),
        ({"schedule": None}, r"Expected a schedule.*Received: None$"),
        ({"criterion": "size"}, r"magnitude.*Received: 'size'$"),
        ({"pattern": "2x4"}, r"unstructured.*Received: '2x4'$"),
        ({"filters": 3}, r"`filters`.*Received: 3$"),
        ({"filters": "(conv"}, r"`filters`.*unterminated.*Received: '\(conv'$"),
        ({"frequency": 0}, r"`frequency`.*at least 1. Received: 0$"),
        ({"frequency": 1.5}, r"`frequency`.*Received: 1\.5$"),
        ({"frequency": "epoch"}, r"`frequency`.*Received: 'epoch'$"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(SqueezeError, match=message):
        MagnitudePruning(**{"schedule": 0.5, **arguments})


def test_filters_that_match_nothing_list_the_candidates():
    pruning = MagnitudePruning(0.5, filters="tail")
    with pytest.raises(
        NoKernelMatchedError, match="hidden/kernel, head/kernel"
    ):
        make_model().fit(features(), labels(), verbose=0, callbacks=[pruning])


def test_filters_of_an_unbuilt_model_are_checked_after_its_first_batch():
    pruning = MagnitudePruning(0.5, filters="tail")
    model = compiled(Subclassed())
    with pytest.raises(NoKernelMatchedError, match="tail"):
        model.fit(
            features(),
            labels(),
            verbose=0,
            callbacks=[pruning],
        )


def test_a_model_all_frozen_is_refused():
    model = make_model()
    model.trainable = False
    compiled(model)
    pruning = MagnitudePruning(0.5)
    with pytest.raises(NoKernelMatchedError, match="all frozen"):
        model.fit(features(), labels(), verbose=0, callbacks=[pruning])


def test_a_callback_without_a_model_is_refused():
    with pytest.raises(SqueezeError, match=r"model.*Received: model=None$"):
        MagnitudePruning(0.5).on_train_begin()
