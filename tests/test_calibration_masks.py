"""Masked positions of sequences count nowhere in calibration."""

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.calibration import input_statistics
from keras_squeeze.calibration.batch_norm_reestimation import channel_moments
from keras_squeeze.calibration.call_masks import unmasked
from keras_squeeze.calibration.lanes import Lane
from keras_squeeze.calibration.layer_calls import Call
from keras_squeeze.calibration.output_error import output_snr_db
from tests import models

L = keras.layers


class Block(L.Layer):
    """Hands masks on, but its sum of two tensors has none."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.attention = L.MultiHeadAttention(2, 3)
        self.up = L.Dense(5, activation="relu")
        self.steps = L.TimeDistributed(keras.Sequential([L.Dense(4)]))

    def build(self, shape):
        self.attention.build(shape, shape)
        self.up.build(shape)
        self.steps.build((*shape[:-1], 5))

    def call(self, inputs):
        x = inputs + self.attention(inputs, inputs)
        return self.steps(self.up(x), mask=None)


def sequence(*layers):
    embedding = L.Embedding(9, 4, mask_zero=True)
    inputs = keras.Input((None,), dtype="int32")
    x = embedding(inputs)
    for layer in layers:
        x = layer(x)
    return models.randomize(keras.Model(inputs, x))


def attending(kind):
    inputs = keras.Input((None,), dtype="int32")
    first = L.Embedding(9, 4, mask_zero=True)(inputs)
    return models.randomize(keras.Model(inputs, L.Dense(3)(kind(first, first))))


def cross_attending():
    tokens = [keras.Input((None,), dtype="int32") for _ in range(2)]
    embedding = L.Embedding(9, 4, mask_zero=True)
    query, value = (embedding(t) for t in tokens)
    return models.randomize(
        keras.Model(tokens, L.MultiHeadAttention(2, 3)(query, value))
    )


KINDS = {
    "dense": lambda: sequence(L.Dense(5), L.Dense(2)),
    "einsum": lambda: sequence(L.EinsumDense("btc,cde->btde", (None, 2, 3))),
    "lstm": lambda: sequence(L.LSTM(3, return_sequences=True), L.GRU(2)),
    "both_ways": lambda: sequence(
        L.Bidirectional(L.SimpleRNN(3, return_sequences=True)), L.Dense(2)
    ),
    "cells": lambda: sequence(L.RNN([L.LSTMCell(3), L.GRUCell(2)])),
    "steps": lambda: sequence(L.TimeDistributed(L.Dense(3))),
    "attention": lambda: attending(L.MultiHeadAttention(2, 3)),
    "grouped": lambda: attending(L.GroupQueryAttention(3, 2, 1)),
    "block": lambda: sequence(Block(), L.Dense(2)),
}


def tokens(count=12, length=4):
    rng = np.random.default_rng(1)
    return rng.integers(1, 9, (count, length)).astype("int32")


def padded(x, steps=3):
    return np.pad(x, ((0, 0), (0, steps)))


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_do_not_depend_on_the_padding(kind):
    model, x = KINDS[kind](), tokens()
    expected = input_statistics(model, x)
    found = input_statistics(model, padded(x))
    assert list(found) == list(expected)
    for path, wanted in expected.items():
        assert found[path].count == wanted.count, path
        for name in ("gram", "mean", "energy", "largest"):
            one, other = getattr(found[path], name), getattr(wanted, name)
            if other is not None:
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_keys_and_queries_have_masks_of_their_own():
    model, x = cross_attending(), tokens()
    expected = input_statistics(model, [x[:, :2], x])
    # As long as one another: lengths do not tell which mask is whose.
    found = input_statistics(model, [padded(x[:, :2], 2), x])
    for path, wanted in expected.items():
        assert found[path].count == wanted.count, path
        if wanted.gram is not None:
            np.testing.assert_allclose(
                found[path].gram, wanted.gram, rtol=1e-4, atol=1e-5
            )


def test_steps_masked_anywhere_are_left_out():
    model = keras.Sequential(
        [keras.Input((5, 2)), L.Masking(), L.LSTM(3, name="lstm")]
    )
    x = np.random.default_rng(0).normal(size=(8, 5, 2)).astype("float32")
    x[np.random.default_rng(1).random((8, 5)) < 0.4] = 0
    seen = x[np.any(x != 0, axis=-1)]
    inputs, states = input_statistics(model, x).values()
    assert inputs.count == states.count == len(seen) < 40
    np.testing.assert_allclose(
        inputs.gram[0], seen.T @ seen / len(seen), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["lstm", "attention"])
def test_codes_do_not_depend_on_the_padding(kind):
    model, x = KINDS[kind](), tokens(48)
    method = ["reconstruct", "correct_bias"]
    results = [
        ks.quantize(model, bits=3, calibration=data, method=method)
        for data in (x, padded(x))
    ]
    (one, first), (other, second) = results
    for mine, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
    assert second.totals["output_snr_db"] == pytest.approx(
        first.totals["output_snr_db"], abs=0.1
    )


def test_a_lane_masks_as_keras_does():
    inputs = keras.Input((None,), dtype="int32")
    x = L.Embedding(9, 4, mask_zero=True)(inputs)
    # Attention takes the mask off: the second one, and the sum, find none.
    one, two = (L.MultiHeadAttention(2, 3)(x, x) for _ in range(2))
    outputs = L.GRU(3)(L.Add()([x, one, two]))
    model = models.randomize(keras.Model(inputs, outputs))
    data = padded(tokens())
    lane = Lane(model, [data])
    for call in lane.calls:
        lane.evaluate(call)
        lane.run(call)
    np.testing.assert_array_equal(lane.outputs()[0][0], model(data))


def test_moments_of_masked_inputs():
    x = np.random.default_rng(0).normal(size=(6, 5, 3)).astype("float32")
    mask = np.arange(5) < np.arange(1, 7)[:, None]
    mean, variance = channel_moments([Call((x,), {}, mask)], -1)
    np.testing.assert_allclose(mean, x[mask].mean(0), atol=1e-6)
    np.testing.assert_allclose(variance, x[mask].var(0), atol=1e-6)


def test_masked_outputs_are_no_error():
    wanted = keras.ops.convert_to_tensor([[[1.0], [1.0]]])
    found = keras.ops.convert_to_tensor([[[1.1], [9.0]]])
    assert output_snr_db([[found]], [[wanted]]) < 0
    wanted._keras_mask = keras.ops.convert_to_tensor([[True, False]])
    assert output_snr_db([[found]], [[wanted]]) == pytest.approx(20, abs=1e-3)


def test_a_batch_of_nothing_but_masked_steps():
    model, x = KINDS["lstm"](), tokens(64)
    x = np.concatenate([x, np.zeros_like(x)])
    method = ["reconstruct", "correct_bias"]
    _, report = ks.quantize(model, bits=4, calibration=x, method=method)
    assert np.isfinite(report.totals["output_snr_db"])
    assert input_statistics(model, x[64:]) == {}


def test_a_mask_of_something_else_leaves_nothing_out():
    array = np.zeros((4, 3, 2))
    assert unmasked(array, np.zeros((4, 2), bool)) is array
    assert unmasked(array, np.zeros((4, 3, 2), bool)) is array
