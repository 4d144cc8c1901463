"""A layer whose variables are replaced while its model trains."""

import keras
import numpy as np

from keras_squeeze.surgery.layer_tree import to_numpy
from keras_squeeze.surgery.optimizer_migration import (
    migrate_optimizer,
    renew_functions,
)

SAMPLES, BATCH, FEATURES, CLASSES = 32, 8, 6, 3


@keras.saving.register_keras_serializable(package="tests")
class Splitting(keras.layers.Layer):
    """A matrix, or a product of two: `split` makes one of the other."""

    def __init__(self, units, rank=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.rank = units, rank

    def build(self, input_shape):
        self._make(input_shape[-1], "glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.units,))

    def _make(self, inputs, initializer):
        shapes = {"kernel": (inputs, self.units)}
        if self.rank is not None:
            shapes = {"u": (inputs, self.rank), "v": (self.rank, self.units)}
        self.factors = [
            self.add_weight(name=name, shape=shape, initializer=initializer)
            for name, shape in shapes.items()
        ]

    def call(self, inputs):
        outputs = inputs
        for factor in self.factors:
            outputs = keras.ops.matmul(outputs, factor)
        return outputs + self.bias

    def get_config(self):
        config = super().get_config()
        return {**config, "units": self.units, "rank": self.rank}

    def split(self, rank):
        """Replaces the variables in place; returns the old ones."""
        old = list(self.factors)
        product = to_numpy(old[0]).astype("float32")
        for factor in old[1:]:
            product = product @ to_numpy(factor)
        left, values, right = np.linalg.svd(product, full_matrices=False)
        self._tracker.unlock()
        for factor in old:
            self._untrack_variable(factor)
        self._tracker.unlock()
        self.rank = rank
        self._make(len(product), "zeros")
        self._trainable_variables.sort(key=lambda v: v is self.bias)
        self._tracker.lock()
        self.factors[0].assign(left[:, :rank] * values[:rank])
        self.factors[1].assign(right[:rank])
        return old


def make_model(optimizer="adam", rank=None, seed=7, **compiled):
    keras.utils.set_random_seed(seed)
    stack = [
        keras.Input((FEATURES,)),
        keras.layers.Dense(5, activation="tanh", name="first"),
        Splitting(4, rank, name="middle"),
        keras.layers.Dense(CLASSES, name="last"),
    ]
    model = keras.Sequential(stack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled = {"metrics": ["accuracy"], **compiled}
    model.compile(optimizer, loss, **compiled)
    return model


def split(model, rank, new_slots=None):
    """The whole change: layer, optimizer, compiled functions."""
    scope = model.distribute_strategy.scope()
    with scope:
        model.get_layer("middle").split(rank)
    variables = model.trainable_variables
    migrate_optimizer(model.optimizer, variables, new_slots)
    renew_functions(model)


def data(samples=SAMPLES):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, samples)


def fit(model, callbacks=(), epochs=1, **arguments):
    x, y = data()
    arguments = {"batch_size": BATCH, "shuffle": False, **arguments}
    return model.fit(
        x, y, epochs=epochs, verbose=0, callbacks=list(callbacks), **arguments
    )


class SplitAt(keras.callbacks.Callback):
    """Splits at the end of epochs or after steps, as a dictionary says."""

    def __init__(self, epochs=None, steps=None):
        super().__init__()
        self.epochs, self.steps = epochs or {}, steps or {}

    def on_epoch_end(self, epoch, logs=None):
        if epoch in self.epochs:
            split(self.model, self.epochs[epoch])

    def on_train_batch_end(self, batch, logs=None):
        step = int(to_numpy(self.model.optimizer._iterations))
        if step in self.steps:
            split(self.model, self.steps[step])
