"""Models whose kernels are large enough to gain from factors."""

import keras
import numpy as np

from keras_squeeze.layers.canonical_kernels import canonical_kernel
from keras_squeeze.layers.low_rank_conversion import (
    convert_to_low_rank,
    reason_not_factorizable,
)
from keras_squeeze.low_rank import decompositions
from keras_squeeze.surgery.copying import replicate
from keras_squeeze.surgery.layer_tree import walk_layers
from tests.models import randomize

L = keras.layers


@keras.saving.register_keras_serializable(package="tests")
class Composite(L.Layer):
    """A layer of a user, whose sublayers are made by its class."""

    def __init__(self, units=12, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.up = L.Dense(3 * units, activation="relu", name="up")
        self.down = L.Dense(units, name="down")

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], 3 * self.units))

    def call(self, inputs):
        return inputs + self.down(self.up(inputs))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class OwnModel(keras.Model):
    """A model of a user, with an attention layer inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = L.Embedding(30, 12, name="embedding")
        self.attention = L.MultiHeadAttention(2, 6, name="attention")
        self.block = Composite()
        self.head = L.Dense(3)

    def call(self, inputs):
        x = self.embedding(inputs)
        x = self.block(self.attention(x, x))
        return self.head(keras.ops.mean(x, axis=1))


def convolutions():
    """Two inputs, two outputs, branches, strides, padding, dilation."""
    image, extra = keras.Input((10, 10, 4), name="image"), keras.Input((6,))
    x = L.Conv2D(16, 3, 2, "same", activation="relu", name="first")(image)
    y = L.Conv2D(16, 3, padding="same", dilation_rate=2, name="second")(x)
    x = L.Add(name="add")([L.Conv2D(16, 1, use_bias=False, name="one")(x), y])
    x = L.BatchNormalization(name="norm")(x)
    x = L.Concatenate()([L.Flatten()(x), extra])
    left = L.Dense(12, activation="relu", name="left")(x)
    right = L.Dense(3, name="right")(L.Dropout(0.1, seed=1)(left))
    return keras.Model([image, extra], [left, right], name="convolutions")


def sequences():
    """A masked embedding, a causal convolution, an einsum, a recurrence."""
    inputs = keras.Input((9,), dtype="int32")
    x = L.Embedding(40, 12, mask_zero=True, name="words")(inputs)
    x = L.Dense(12, name="each")(x)
    x = L.EinsumDense("abc,cde->abde", (9, 3, 4), bias_axes="de", name="e")(x)
    x = L.Reshape((9, 12))(x)
    x = L.Conv1D(12, 3, padding="causal", name="causal")(x)
    return keras.Model(inputs, L.Dense(5, name="out")(L.GRU(12)(x)))


def masked():
    """A mask travels from an embedding through two layers to an LSTM."""
    return keras.Sequential(
        [
            keras.Input((9,), dtype="int32"),
            L.Embedding(40, 12, mask_zero=True, name="words"),
            L.Dense(12, name="each"),
            L.LSTM(4),
        ]
    )


def nested():
    """Models inside models, and one layer that is called three times."""
    shared = L.Dense(12, name="shared")
    inner = keras.Sequential(
        [keras.Input((12,)), L.Dense(12, name="same"), L.Dropout(0.1)],
        name="inner",
    )
    a = keras.Input((12,), name="a")
    block = keras.Model(
        a, L.Dense(12, name="same")(shared(shared(a))), name="block"
    )
    inputs = keras.Input((12,))
    x = inner(block(inner(inputs)))
    return keras.Model(inputs, L.Dense(12, name="same")(x), name="outer")


def attention():
    """Layers inside layers: projections, a user's block, a wrapper."""
    inputs = keras.Input((5, 12))
    x = L.MultiHeadAttention(2, 6, name="attention")(inputs, inputs)
    x = Composite(name="block")(x)
    x = L.TimeDistributed(L.Dense(12, name="inner"), name="times")(x)
    return keras.Model(inputs, L.Dense(12, name="out")(x))


def own():
    """A model of a user's class."""
    model = OwnModel(name="own")
    model(np.zeros((1, 5), "int32"))
    return model


ALL = {
    "attention": attention,
    "convolutions": convolutions,
    "masked": masked,
    "nested": nested,
    "own": own,
    "sequences": sequences,
}


def make(kind):
    """A model of that kind with values of its own, and a batch for it."""
    model = randomize(ALL[kind]())
    rng = np.random.default_rng(1)
    if kind in ("masked", "own", "sequences"):
        length = 5 if kind == "own" else 9
        x = rng.integers(1, 30, (4, length)).astype("int32")
        x[1:, -3:] = 0
        return model, x
    shapes = [tensor.shape[1:] for tensor in model.inputs]
    batch = [rng.normal(size=(4, *s)).astype("float32") for s in shapes]
    return model, batch if len(batch) > 1 else batch[0]


def outputs(model, x):
    """What a model computes, as a list of arrays."""
    flat = keras.tree.flatten(model(x))
    return [keras.ops.convert_to_numpy(tensor) for tensor in flat]


def at_full_rank(model, method=None):
    """A copy in which every layer that can be is of low rank, exactly."""
    copy = replicate(model)
    for _, layer in list(walk_layers(copy)):
        name = method if hasattr(layer, "dilation_rate") else "svd"
        name = name or "channel_svd"
        if reason_not_factorizable(layer, name) is None:
            kernel = canonical_kernel(layer)
            decomposition = decompositions.get(name)
            if decomposition.reason_not_applicable(kernel.shape):
                name, decomposition = (
                    "channel_svd",
                    decompositions.get("channel_svd"),
                )
            ranks = decomposition.max_ranks(kernel.shape)
            factors = decomposition.decompose(kernel, ranks)
            convert_to_low_rank(layer, name, factors)
    return copy
