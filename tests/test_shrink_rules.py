"""Every kind of layer: the smaller model computes what the masked one does."""

import json

import keras
import numpy as np
import pytest

from keras_squeeze.shrinking import choose_channels, shrink
from keras_squeeze.shrinking.latency import sample_batch
from keras_squeeze.shrinking.shape_rules import locate
from keras_squeeze.shrinking.trace import COMPANION, FILTER, PRODUCER
from keras_squeeze.shrinking.tracing import trace_model
from tests.shrink_models import (
    ALL,
    L,
    attention,
    bias_takes_constants,
    convolutions_2d,
    difference,
    enliven,
    nested,
    prove,
    residual,
    transformer,
)


@pytest.mark.parametrize("build", ALL)
def test_smaller_model_computes_what_the_masked_one_does(build):
    smaller, report, channels = prove(build())
    assert report.totals["macs_after"] < report.totals["macs_before"]
    assert "keras_squeeze" not in json.dumps(smaller.to_json())
    for row in report.rows:
        removed = len(channels.get(row["layer"], ()))
        if row.get("channels_before"):
            assert row["channels_after"] == row["channels_before"] - removed


@pytest.mark.parametrize(
    "build",
    [residual, convolutions_2d, bias_takes_constants, nested, attention],
)
def test_random_zeros_are_removed_exactly(build, rng):
    model = enliven(build())
    trace = trace_model(model)
    for binding in trace.bindings:
        if binding.role in (PRODUCER, FILTER, COMPANION):
            value = binding.variable.numpy().copy()
            zero = rng.random(len(binding.ids)) < 0.4
            np.moveaxis(value, binding.axis, 0)[zero] = 0
            binding.variable.assign(value)
    smaller, _ = shrink(model)
    assert smaller.count_params() < 0.9 * model.count_params()
    assert difference(model, smaller, sample_batch(model, 3)) < 1e-5


def reasons(model, sparsity=0.4):
    _, report = shrink(model, sparsity=sparsity)
    return {entry["path"]: entry["reason"] for entry in report.skipped}


def test_layer_normalization_keeps_its_channels_but_not_those_inside():
    found = reasons(transformer())
    assert "statistics run over all channels" in found["attend"]
    assert not {"inside", "attend/heads"} & set(found)


def through(*layers, shape=(6, 6, 3), filters=8):
    """A convolution, layers to look at, and a dense layer."""
    inputs = keras.Input(shape)
    x = L.Conv2D(filters, 3, name="first")(inputs)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, L.Dense(2, name="last")(x))


class Doubled(L.Layer):
    def call(self, inputs):
        return inputs * 2


@keras.saving.register_keras_serializable(package="tests")
def half(x):
    return x * 0.5


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: Doubled(), "no rule is known for a Doubled (doubled"),
        (lambda: L.Lambda(lambda x: x), "no rule is known for a Lambda"),
        (lambda: L.Softmax(), "softmax runs over all channels"),
        (lambda: L.UnitNormalization(), "statistics run over all channels"),
        (lambda: L.GroupNormalization(1), "statistics run over all channels"),
        (lambda: L.Activation("softmax"), "'softmax' may mix channels"),
        (lambda: L.Activation(half), "'half' may mix channels"),
        (lambda: L.Rescaling([1.0] * 8), "of its own for each channel"),
        (lambda: L.Reshape((4, 4, 2, 4)), "splits the channels"),
        (lambda: L.BatchNormalization(axis=1), "works on axis -3"),
        (lambda: L.Permute((3, 1, 2)), "lie elsewhere"),
        (lambda: L.Dropout(0.1, noise_shape=(None, 1, 1, 8)), "noise_shape"),
    ],
)
def test_channels_stay_where_a_layer_is_not_understood(layer, reason):
    assert reason in reasons(through(layer()))["first"]


def test_weights_that_an_unknown_layer_holds_too_stay():
    class Tied(L.Layer):
        def __init__(self, embedding):
            super().__init__()
            self.embedding = embedding

        def call(self, inputs):
            return inputs @ keras.ops.transpose(self.embedding.embeddings)

    inputs = keras.Input((4,), dtype="int32")
    embedding = L.Embedding(9, 6, name="rows")
    x = L.Dense(6)(L.Dense(8, name="free")(embedding(inputs)))
    model = keras.Model(inputs, Tied(embedding)(x))
    assert set(choose_channels(model, 0.5)) == {"free"}


def test_a_single_channel_that_meets_many_stays():
    inputs, factor = keras.Input((8,)), keras.Input((1,))
    x = L.Dense(6, name="many")(inputs) * L.Dense(1)(factor)
    model = keras.Model([inputs, factor], L.Dense(2)(x))
    _, _, channels = prove(model)
    assert set(channels) == {"many"}


def test_channels_on_the_first_axis():
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 20, 20))
    x = L.BatchNormalization(axis=1)(L.Conv2D(8, 3, **first)(inputs))
    y = L.Conv2D(4, 3, padding="same", **first)(x)
    x = L.ZeroPadding2D(1, **first)(L.Concatenate(axis=1)([x, y]))
    pooled = L.Dense(3)(L.GlobalAveragePooling2D(**first)(x))
    prove(keras.Model(inputs, [pooled, L.Dense(4)(L.Flatten()(x))]))


def test_addition_of_a_plain_array_locks_channels():
    model = through(lambda x: x + np.ones(8, "float32"))
    assert "array" in reasons(model)["first"]


def test_subclasses_of_known_layers_are_not_taken_for_them():
    class Mixing(L.ReLU):
        def call(self, inputs):
            return super().call(inputs) + keras.ops.mean(inputs, -1, True)

    assert "Mixing" in reasons(through(Mixing()))["first"]


def test_quantized_layers_stay_as_they_are():
    model = through(L.Flatten(), L.Dense(8, name="middle"))
    model.get_layer("middle").quantize("int8")
    assert "quantized" in reasons(model)["first"]


def test_whole_groups_of_grouped_layers_go():
    model = through(
        L.Conv2D(16, 3, groups=4, name="grouped"), L.GroupNormalization(8)
    )
    channels = choose_channels(model, sparsity=0.5)
    smaller, _ = shrink(model, channels=channels)
    grouped = smaller.get_layer("grouped")
    assert (grouped.groups, grouped.filters) == (2, 8)
    assert smaller.get_layer("first").filters == 4
    assert tuple(grouped.kernel.shape) == (3, 3, 2, 8)


@pytest.mark.parametrize(
    ("before", "axis", "after", "expected"),
    [
        ((None, 4, 4, 3), -1, (None, 16, 3), (-1, [0, 1, 2])),
        ((None, 3), -1, (None, 1, 1, 3), (-1, [0, 1, 2])),
        ((None, 2, 3), -1, (None, 6), (-1, [0, 1, 2, 0, 1, 2])),
        ((None, 2, 3), -2, (None, 6), (-1, [0, 0, 0, 1, 1, 1])),
        ((None, 2, 6), -2, (None, 2, 2, 3), (-3, [0, 1])),
        ((None, None, 3), -1, (None, None, 3), (-1, [0, 1, 2])),
        ((None, 6), -1, (None, 2, 3), None),
        ((None, 4, 6), -1, (None, 3, 8), None),
    ],
)
def test_reshapes_are_followed_where_channels_stay_whole(
    before, axis, after, expected
):
    found = locate(before, axis, after)
    if expected is None:
        assert found is None
    else:
        assert (found[0], found[1].tolist()) == expected


def test_reshape_agrees_with_numpy():
    for before, axis, after in [
        ((5, 4, 3), -1, (20, 3)),
        ((5, 4, 3), -1, (5, 12)),
        ((5, 4, 3), -2, (5, 12)),
        ((2, 4, 3), -3, (8, 3)),
    ]:
        shape = [1] * len(before)
        shape[axis] = before[axis]
        labels = np.broadcast_to(
            np.arange(before[axis]).reshape(shape), before
        ).reshape(after)
        new_axis, places = locate((None, *before), axis, (None, *after))
        lines = np.moveaxis(labels, new_axis, -1).reshape(-1, len(places))
        assert (lines == places).all()
