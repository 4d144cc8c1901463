"""The optimizer goes on when kernels become low-rank chains."""

import keras
import numpy as np

from keras_squeeze.layers.low_rank_conversion import (
    canonical_kernel,
    change_ranks,
    convert_to_low_rank,
)
from keras_squeeze.surgery.layer_tree import to_numpy, walk_layers
from keras_squeeze.surgery.optimizer_migration import (
    migrate_optimizer,
    renew_functions,
)
from keras_squeeze.surgery.optimizer_rebuilding import slot_lists

METHODS = {"conv": "channel_svd", "hidden": "svd", "attention/query": "svd"}


def factors_of(layer, rank):
    kernel = canonical_kernel(layer)
    matrix = kernel.reshape(-1, kernel.shape[-1])
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    left = (left * values)[:, :rank]
    right = right[:rank]
    if kernel.ndim == 2:
        return left, right
    ones = (1,) * (kernel.ndim - 2)
    return (
        left.reshape(*kernel.shape[:-1], rank),
        right.reshape(*ones, *right.shape),
    )


def make_model():
    keras.utils.set_random_seed(3)
    layers = keras.layers
    inputs = keras.Input((6, 4))
    x = layers.Conv1D(6, 3, padding="same", name="conv")(inputs)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    outputs = layers.Dense(2, name="last")(layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    optimizer = keras.optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.5, global_clipnorm=1.0
    )
    model.compile(optimizer, "mse")
    return model


def slots_by_id(optimizer):
    return {
        (id(variable), name): to_numpy(slot)
        for name, slots in slot_lists(optimizer).items()
        for variable, slot in zip(
            optimizer._trainable_variables, slots, strict=True
        )
    }


class Factorize(keras.callbacks.Callback):
    """Converts after the second batch, takes smaller ranks after the third."""

    def on_train_batch_end(self, batch, logs=None):
        if batch not in (1, 2):
            return
        model, optimizer = self.model, self.model.optimizer
        before, conversions = slots_by_id(optimizer), []
        layers = dict(walk_layers(model))
        for path, method in METHODS.items():
            factors = factors_of(layers[path], 3 if batch == 1 else 2)
            if batch == 1:
                change = convert_to_low_rank(layers[path], method, factors)
            else:
                change = change_ranks(layers[path], factors)
            conversions.append(change)
        migrate_optimizer(optimizer, model.trainable_variables)
        renew_functions(model)
        self.check(before, slots_by_id(optimizer), conversions)

    def check(self, before, after, conversions):
        removed = {id(v) for c in conversions for v in c.removed}
        added = {id(v) for c in conversions for v in c.added}
        kept = {key for key in before if key[0] not in removed}
        assert kept == {key for key in after if key[0] not in added}
        assert len(after) - len(kept) == 3 * len(added)
        for key in kept:
            np.testing.assert_array_equal(before[key], after[key])


def test_low_rank_layers_take_over_in_a_running_fit(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6, 4)).astype("float32")
    y = x[:, :2, 0]
    model = make_model()
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, callbacks=[Factorize()], **arguments)
    assert np.isfinite(history.history["loss"]).all()
    assert int(model.optimizer.iterations) == 5
    query = model.get_layer("attention").query_dense
    assert query.ranks == model.get_layer("hidden").ranks == (2,)
    model.save_weights(tmp_path / "m.weights.h5")
    again = make_model()
    layers = dict(walk_layers(again))
    for path, method in METHODS.items():
        convert_to_low_rank(layers[path], method, factors_of(layers[path], 2))
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "m.weights.h5")
    for one in (model, again):
        one.fit(x, y, **arguments)
    for one, other in (
        (model.variables, again.variables),
        (model.optimizer.variables, again.optimizer.variables),
    ):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(to_numpy(left), to_numpy(right))
