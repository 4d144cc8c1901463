"""Small models of every kind, each with one batch of input."""

import keras
import numpy as np

L = keras.layers


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A registered subclassed model with a composite layer inside."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = L.Dense(8, activation="relu")
        self.blocks = [L.Dense(8), L.Dense(8)]
        self.last = L.Dense(units)

    def call(self, inputs):
        x = self.first(inputs)
        for block in self.blocks:
            x = block(x)
        return self.last(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Unregistered(Subclassed):
    """Needs `custom_objects` to be loaded."""


def randomize(model, seed=0):
    """Gives every float variable a value that no initializer makes."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" in str(variable.dtype):
            value = rng.normal(scale=0.3, size=variable.shape)
            if "variance" in variable.name:
                value = np.abs(value) + 0.1
            variable.assign(value.astype("float32"))
    return model


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(4, 3, activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling2D(),
            L.Dropout(0.2),
            L.Flatten(),
            L.Dense(5, activation="softmax"),
        ]
    )


def functional():
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    x = L.Concatenate()([L.Dense(5, activation="relu")(a), b])
    x = L.Rescaling(2.0)(x) + 1.0
    outputs = [L.Dense(2, name="left")(x), L.Dense(3, name="right")(x)]
    return keras.Model([a, b], outputs)


def nested():
    inner = keras.Sequential(
        [keras.Input((6,)), L.Dense(5), L.Dense(5)], name="inner"
    )
    second = keras.Sequential(
        [keras.Input((5,)), L.Dense(5, name="same")], name="second"
    )
    third = keras.Sequential(
        [keras.Input((5,)), L.Dense(5, name="same")], name="third"
    )
    inputs = keras.Input((6,))
    return keras.Model(inputs, L.Dense(2)(third(second(inner(inputs)))))


def shared():
    layer = L.Dense(6, name="shared")
    inputs = keras.Input((6,))
    return keras.Model(inputs, layer(layer(inputs)))


def attention():
    inputs = keras.Input((7,), dtype="int32")
    x = L.Embedding(20, 8)(inputs)
    x = L.MultiHeadAttention(2, 4)(x, x)
    x = L.LayerNormalization()(x)
    x = L.Bidirectional(L.GRU(4))(x)
    return keras.Model(inputs, L.Dense(3)(x))


def separable():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.DepthwiseConv2D(3, depth_multiplier=2),
            L.SeparableConv2D(5, 3),
            L.Conv2DTranspose(4, 3),
            L.GlobalAveragePooling2D(),
            L.EinsumDense("ab,bc->ac", output_shape=3, bias_axes="c"),
        ]
    )


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6), "float32"))
    return model


def normalization():
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, 6)))
    return keras.Sequential([keras.Input((6,)), layer, L.Dense(2)])


ALL = {
    "sequential": sequential,
    "functional": functional,
    "nested": nested,
    "shared": shared,
    "attention": attention,
    "separable": separable,
    "subclassed": subclassed,
    "normalization": normalization,
}


def make(kind):
    """A model of that kind with values of its own, and a batch for it."""
    model = ALL[kind]()
    if kind != "normalization":
        randomize(model)
    return model, batch(model, kind)


def batch(model, kind):
    """One batch of input for a model of that kind."""
    rng = np.random.default_rng(1)
    if kind == "attention":
        return rng.integers(0, 20, (3, 7)).astype("int32")
    if kind == "functional":
        return [
            rng.normal(size=(3, 6)).astype("float32"),
            rng.normal(size=(3, 4)).astype("float32"),
        ]
    shape = (6,) if kind == "subclassed" else model.input_shape[1:]
    return rng.normal(size=(3, *shape)).astype("float32")
