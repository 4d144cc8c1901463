"""What pruning promises in every way that Keras can train a model.

After every batch no pruned weight is other than zero; they are as many as the
schedule asks for, and the same as since the last update. At the end so many
weights are zero. Where
a model has two towers, of which one is pruned, the other ends with the bits
that it has without the callback.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_squeeze.callbacks import Pruning
from keras_squeeze.constraints import MaskConstraint
from keras_squeeze.masking.pruner import Pruner
from keras_squeeze.pruning import patterns
from keras_squeeze.schedules import (
    OneShot,
    PolynomialDecay,
    last_update_step,
)
from keras_squeeze.surgery.kernel_quantization import channel_axis
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy

# The pruner has a way to go on where constraints are not applied, and says so.
BYPASSED = "without its optimizer's `apply`"
pytestmark = pytest.mark.filterwarnings(f"error:.*{BYPASSED}:UserWarning")

BATCH, BATCHES, FREQUENCY = 2, 12, 3
RAMP = PolynomialDecay(0.25, 0.75, begin_step=1, end_step=8)
TOWER = "^pruned"


def data(*shape, outputs=11):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * BATCHES, *(shape or (12,))))
    y = rng.normal(size=(BATCH * BATCHES, outputs))
    return x.astype("float32"), y.astype("float32")


class Witness(keras.callbacks.Callback):
    """Looks at all masked kernels after every batch."""

    def __init__(self, pruning, filters=None):
        super().__init__()
        self.pruning, self.filters = pruning, filters
        self.failures, self.step = [], 0
        self._due, self._pruned = None, {}

    def on_train_batch_end(self, batch, logs=None):
        before, schedule = self._due, self.pruning.schedule
        iterations = self.model.optimizer.iterations
        self.step = int(keras.ops.convert_to_numpy(iterations))
        frequency = self.pruning.frequency
        self._due = last_update_step(schedule, self.step, frequency)
        sparsity = 0.0 if self._due is None else schedule(self._due)
        masks = self.pruning.pruner.masks
        for kernel in find_kernels(self.model, self.filters):
            pruned = ~masks[kernel.path]
            self.look(kernel, pruned, sparsity, moved=self._due != before)

    def look(self, kernel, pruned, sparsity, moved):
        before = self._pruned.setdefault(kernel.path, pruned)
        self._pruned[kernel.path] = pruned
        unit = largest_group(self.pruning.plan.pattern, kernel)
        if np.any(to_numpy(kernel.variable)[pruned]):
            self.failures.append((kernel.path, self.step, "not zero"))
        if abs(pruned.sum() - sparsity * pruned.size) > unit:
            self.failures.append((kernel.path, self.step, pruned.mean()))
        if not moved and not np.array_equal(before, pruned):
            self.failures.append((kernel.path, self.step, "between updates"))


def largest_group(pattern, kernel):
    """How many weights go together: by so many sparsity may be missed."""
    shape = tuple(kernel.variable.shape)
    return int(max(pattern.group_sizes(shape, channel_axis(kernel))))


def prune(model, pruning, filters=None, callbacks=(), epochs=1, x=None, y=None):
    """Trains under the eyes of the witness."""
    witness = Witness(pruning, filters)
    fit(model, [pruning, witness, *callbacks], epochs, x, y)
    assert witness.failures == []
    last = pruning.schedule.end_step
    assert witness.step >= last
    for kernel in find_kernels(model, filters):
        zero = to_numpy(kernel.variable) == 0
        missed = abs(zero.sum() - pruning.schedule(last) * zero.size)
        unit = largest_group(pruning.plan.pattern, kernel)
        assert missed <= unit, kernel.path
        assert not isinstance(kernel.variable.constraint, MaskConstraint)


def fit(model, callbacks=(), epochs=1, x=None, y=None):
    if x is None:
        x, y = data()
    model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )


def two_towers():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((12,))
    pruned = layers.Dense(8, use_bias=False, name="pruned")(inputs)
    free = layers.Dense(3, activation="tanh", name="free")(inputs)
    outputs = layers.Concatenate(dtype="float32")([pruned, free])
    return keras.Model(inputs, outputs)


PRUNINGS = {
    "magnitude": {},
    "gathered": {"criterion": "taylor", "regrowth": "splicing"},
}


def check_towers(
    make_optimizer, epochs=1, callbacks=list, prunings=PRUNINGS, **compile_args
):
    """Trains a model without the callback, and others with it."""
    ends = []
    for name in (None, *prunings):
        model = two_towers()
        model.compile(make_optimizer(), "mse", **compile_args)
        # Otherwise Keras traces the first step twice.
        model.optimizer.build(model.trainable_variables)
        if name is None:
            fit(model, callbacks(), epochs)
        else:
            arguments = {"filters": TOWER, "frequency": FREQUENCY}
            pruning = Pruning(RAMP, **arguments, **PRUNINGS[name])
            prune(model, pruning, TOWER, callbacks(), epochs)
        ends.append(model.get_layer("free").get_weights())
    for end in ends[1:]:
        for one, other in zip(ends[0], end, strict=True):
            np.testing.assert_array_equal(one, other)


def sgd(**arguments):
    return lambda: keras.optimizers.SGD(0.1, momentum=0.9, **arguments)


MODES = {
    "graph": {},
    "xla": {"jit_compile": True},
    "eager": {"run_eagerly": True},
    "steps_per_execution": {"steps_per_execution": 4},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode):
    check_towers(sgd(), **MODES[mode])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        # Loss scaling skips its first steps.
        check_towers(sgd(), epochs=2, prunings=["gathered"])
    finally:
        keras.config.set_dtype_policy(before)


AVERAGE = {"use_ema": True, "ema_momentum": 0.5}
WAYS = {
    "clipnorm": {"clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "accumulation": {"gradient_accumulation_steps": 3},
    "average": AVERAGE,
    "overwriting_average": {**AVERAGE, "ema_overwrite_frequency": 4},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_apply_gradients(way):
    epochs = 3 if way == "accumulation" else 1
    check_towers(sgd(**WAYS[way]), epochs, prunings=["gathered"])


@pytest.mark.parametrize("name", PRUNINGS)
def test_swapped_averages_are_pruned_too(name):
    seen = []

    class Evaluated(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            kernel = to_numpy(self.model.get_layer("pruned").kernel)
            seen.append(np.mean(kernel == 0))

    model = two_towers()
    model.compile(sgd(**AVERAGE)(), "mse")
    pruning = Pruning(RAMP, filters=TOWER, frequency=3, **PRUNINGS[name])
    swap = keras.callbacks.SwapEMAWeights()
    witness = Witness(pruning, TOWER)
    x, y = data()
    model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=2,
        verbose=0,
        validation_data=(x[:2], y[:2]),
        callbacks=[pruning, witness, swap, Evaluated()],
    )
    assert witness.failures == []
    assert seen == [0.75, 0.75]
    assert np.mean(model.get_layer("pruned").get_weights()[0] == 0) == 0.75


@pytest.mark.parametrize("name", PRUNINGS)
def test_clipping_by_the_norm_of_all_gradients(name):
    # It couples the towers: their bits must differ.
    model = two_towers()
    model.compile(sgd(global_clipnorm=0.1)(), "mse")
    arguments = {"filters": TOWER, "frequency": FREQUENCY, **PRUNINGS[name]}
    prune(model, Pruning(RAMP, **arguments), TOWER)


OPTIMIZERS = sorted(
    set(dir(keras.optimizers))
    - {"Optimizer", "OptimizerMap", "LossScaleOptimizer", "MultiOptimizer"}
    & {name for name in dir(keras.optimizers) if name[0].isupper()}
)


def run_by_hand(optimizer, pruned):
    """Steps of random gradients, with and without a pruner."""
    model = two_towers()
    variables = model.trainable_variables
    optimizer.build(variables)
    arguments = {"regrowth": "splicing", "optimizer": optimizer}
    arguments |= {"filters": TOWER, "frequency": FREQUENCY}
    pruner = Pruner(model, RAMP, "taylor", **arguments)
    if pruned:
        pruner.begin()
    rng = np.random.default_rng(0)
    for _ in range(10):
        shapes = [variable.shape for variable in variables]
        gradients = [rng.normal(size=shape) for shape in shapes]
        tensors = [keras.ops.cast(g, "float32") for g in gradients]
        optimizer.apply(tensors, variables)
        if pruned:
            pruner.after_batch()
            keep = pruner.masks["pruned/kernel"]
            kernel = model.get_layer("pruned").get_weights()[0]
            assert not np.any(kernel[~keep])
    pruner.finish()
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    optimizer = getattr(keras.optimizers, name)
    pruned, plain = (run_by_hand(optimizer(0.01), p) for p in (True, False))
    assert np.mean(pruned.get_layer("pruned").get_weights()[0] == 0) == 0.75
    for one, other in zip(
        pruned.get_layer("free").get_weights(),
        plain.get_layer("free").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_several_optimizers_in_one():
    def make():
        one, other = keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.01)
        chosen = keras.optimizers.OptimizerMap(one, {"pruned.*": other})
        return keras.optimizers.MultiOptimizer(chosen)

    check_towers(make)


class OwnStep(keras.Model):
    """Built by its first batch, and trained by a step of its own."""

    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(8, activation="relu"), layers.Dense(8)]

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return inputs

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_weights, strict=True)
        )
        return {"loss": loss}


def nested_with_shared_layer():
    shared = layers.Dense(12, name="shared")
    inner = keras.Sequential([keras.Input((12,)), shared], name="inner")
    inputs = keras.Input((12,))
    outputs = layers.Dense(8)(shared(inner(inner(inputs))))
    return keras.Model(inputs, outputs)


def attention():
    inputs = keras.Input((3, 4))
    x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    x = layers.GroupQueryAttention(4, 4, 2)(x, x)
    x = layers.EinsumDense("abc,bcd->ad", output_shape=8)(x)
    return keras.Model(inputs, x)


def recurrent():
    inputs = keras.Input((3, 4))
    x = layers.LSTM(3, return_sequences=True)(inputs)
    x = layers.Bidirectional(layers.GRU(4))(x)
    return keras.Model(inputs, x)


def embedding():
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(9, 4)(inputs))
    return keras.Model(inputs, layers.Dense(8)(x))


def convolutions():
    inputs = keras.Input((6, 6, 2))
    x = layers.SeparableConv2D(8, 3)(inputs)
    x = layers.DepthwiseConv2D(2)(x)
    x = layers.Conv2DTranspose(4, 3)(x)
    x = layers.Reshape((25, 4))(x)
    x = layers.Conv1DTranspose(4, 3)(layers.SeparableConv1D(4, 3)(x))
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(8, 3)(x))
    return keras.Model(inputs, x)


MODELS = {
    "subclassed_own_step": (OwnStep, (12,)),
    "nested_shared": (nested_with_shared_layer, (12,)),
    "attention": (attention, (3, 4)),
    "recurrent": (recurrent, (3, 4)),
    "convolutions": (convolutions, (6, 6, 2)),
    "embedding": (embedding, (12,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_layer(name):
    make, shape = MODELS[name]
    keras.utils.set_random_seed(0)
    model = make()
    model.compile("adam", "mse")
    if model.built:
        model.optimizer.build(model.trainable_variables)
    x, y = data(*shape, outputs=8)
    if name == "embedding":
        x = np.abs(x * 3).astype("int32") % 9
    # An unbuilt model gathers from the second batch on.
    schedule = PolynomialDecay(0.25, 0.75, begin_step=2, end_step=8)
    pruning = Pruning(
        schedule, frequency=3, criterion="taylor", regrowth="splicing"
    )
    prune(model, pruning, x=x, y=y)


def test_the_users_own_constraint():
    keras.utils.set_random_seed(0)
    constraint = keras.constraints.MaxNorm(0.1)
    layer = layers.Dense(8, kernel_constraint=constraint)
    model = keras.Sequential([keras.Input((12,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    x, y = data(outputs=8)
    arguments = {"criterion": "taylor", "regrowth": "splicing", "frequency": 3}
    prune(model, Pruning(RAMP, **arguments), x=x, y=y)
    assert layer.kernel.constraint is constraint
    norms = np.linalg.norm(layer.get_weights()[0], axis=0)
    assert np.all(norms <= 0.1 + 1e-6)


NEAR = PolynomialDecay(0.1, 0.5, begin_step=1, end_step=8)
RULES = {
    "taylor_channel": ("taylor", None, "channel", NEAR),
    "movement_n_of_m": ("movement", None, "n_of_m", NEAR),
    "gradient_block": ("gradient_l2", None, "block", NEAR),
    "activation": ("activation", None, "unstructured", RAMP),
    "snip": ("snip", None, "unstructured", OneShot(0.75, 2)),
    "magnitude_rigl": ("magnitude", "rigl", "unstructured", RAMP),
    "random_set": ("random", "set", "unstructured", RAMP),
    "movement_splicing": ("movement", "splicing", "unstructured", RAMP),
    "magnitude_splicing_block": ("magnitude", "splicing", "block", NEAR),
}


@pytest.mark.parametrize("name", RULES)
def test_criteria_patterns_and_regrowths(name):
    criterion, regrowth, pattern, schedule = RULES[name]
    keras.utils.set_random_seed(0)
    stack = [
        layers.Conv2D(8, 3),
        layers.Flatten(),
        layers.Dense(8),
    ]
    model = keras.Sequential([keras.Input((4, 4, 4)), *stack])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    x, y = data(4, 4, 4, outputs=8)
    pruning = Pruning(
        schedule, criterion, pattern, regrowth=regrowth, frequency=3
    )
    prune(model, pruning, x=x, y=y)
    for kernel in find_kernels(model):
        check_structure(kernel, to_numpy(kernel.variable) != 0, pattern)


def check_structure(kernel, keep, pattern):
    """The zeros alone must be a mask of the pattern, no matter the scores."""
    sparsity = 1 - keep.mean()
    again = patterns.get(pattern).mask(
        keep.astype("float32"), sparsity, channel_axis(kernel)
    )
    np.testing.assert_array_equal(again, keep)


_MIRRORED = """
import sys, warnings
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
sys.path.insert(0, {root!r})
from tests import test_pruning_invariants as tests
warnings.filterwarnings("error", ".*" + tests.BYPASSED)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    tests.check_towers(tests.sgd(), prunings=["gathered"])
print("mirrored")
"""


def test_mirrored_strategy(request):
    script = _MIRRORED.format(root=str(request.path.parent.parent))
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert "mirrored" in child.stdout, child.stderr[-3000:]
