"""What is compiled as a whole is what the single operations give."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state

import keras_squeeze as ks
from keras_squeeze.layers import (
    codebook_gradients,
    fused_operations,
    quantization_aware_rounding,
)
from keras_squeeze.layers.codebook_intervals import places_between
from keras_squeeze.layers.fused_operations import fused
from keras_squeeze.layers.quantization_aware_codebook import share_levels
from keras_squeeze.layers.quantization_aware_rounding import (
    learned_step,
    round_to_fixed_grid,
    round_to_grid,
    round_to_learned_grid,
    round_to_levels,
)

SHAPE = (96, 64)


@pytest.fixture(params=[False, True], ids=["single", "compiled"])
def compiles(request, monkeypatch):
    """Says that the code runs in a training, or that it does not."""
    monkeypatch.setattr(fused_operations, "_is_training", lambda: request.param)
    return request.param


def gradients(function, *inputs):
    tensors = [tf.constant(array) for array in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        values = function(*tensors)
        loss = tf.reduce_sum(values * tf.cos(17.0 * tensors[0]))
    return values.numpy(), [g.numpy() for g in tape.gradient(loss, tensors)]


def test_only_large_kernels_in_training_are_compiled(compiles):
    assert (fused(np.add, 1 << 20) is np.add) != compiles
    assert fused(np.add, 8) is np.add


def test_training_is_told_from_inference():
    class Probe(keras.layers.Layer):
        def call(self, x, training=None):
            found.append(fused_operations._is_training())
            return x

    found, probe = [], Probe()
    for training in (True, False, None):
        probe(np.zeros((1, 2), "float32"), training=training)
    assert found == [True, False, False]
    assert global_state.get_global_attribute("current_call_ctx") is None


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_rounding_is_exactly_what_a_file_holds(
    compiles, rng, bits, per_channel
):
    high = float(max(1, 2 ** (bits - 1) - 1))
    weights = rng.normal(0, 1, SHAPE).astype("float32")
    shape = (1, SHAPE[1]) if per_channel else (1, 1)
    step = np.exp(rng.normal(-2, 1, shape)).astype("float32")
    # Ties, and weights on the edge of the grid.
    weights[:4] = (np.arange(4)[:, None] + 0.5) * step
    weights[4] = high * step
    values, _ = gradients(
        lambda w, s: round_to_grid(w, s, -high, high, bits), weights, step
    )
    inside = np.clip(weights / step, -high, high)
    levels = np.where(inside < 0, -high, high) if bits == 1 else np.rint(inside)
    np.testing.assert_array_equal(values, (levels * step).astype("float32"))


@pytest.mark.parametrize("rows", [8, 50, 96])
@pytest.mark.parametrize("low", [-7.0, np.float32([[-3.0] * 64])])
def test_gradients_are_those_of_learned_steps(compiles, rng, low, rows):
    weights = rng.normal(0, 1, (rows, 64)).astype("float32")
    step = np.full((1, 64), 0.125, "float32")
    values, (passed, slope) = gradients(
        lambda w, s: round_to_grid(w, s, low, 7.0, 4), weights, step
    )
    received = tf.cos(17.0 * tf.constant(weights)).numpy()
    relative = weights / step
    inside = (relative >= low) & (relative <= 7.0)
    direct = passed - (-17.0 * values * np.sin(17.0 * weights))
    np.testing.assert_allclose(direct, received * inside, atol=2e-4)
    errors = received * (values - np.where(inside, weights, 0)) / step
    np.testing.assert_allclose(slope[0], errors.sum(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((3, 3, 8, 16), (3,)),
        ((3, 3, 5, 16), (3,)),
        ((3, 3, 8, 16), (2,)),
        ((3, 3, 8, 16), (2, 3)),
        ((3, 3, 8, 16), ()),
        ((48, 16), (0,)),
        ((300,), ()),
        ((300,), (0,)),
    ],
)
def test_each_channel_s_step_receives_the_sum_of_its_weights(
    compiles, rng, shape, channels
):
    sizes = [n if i in channels else 1 for i, n in enumerate(shape)]
    weights = rng.normal(0, 1, shape).astype("float32")
    initial = np.full((math.prod(sizes), 1), 0.125, "float32")
    values, (_, slope) = gradients(
        lambda w, s: round_to_learned_grid(
            w, initial, s, -7.0, 7.0, 4, 0.5, tuple(sizes)
        ),
        weights,
        np.zeros_like(initial),
    )
    np.testing.assert_array_equal(
        values, np.clip(np.rint(weights * 8), -7, 7) / 8
    )
    inside = np.abs(weights) <= 7 / 8
    errors = np.cos(17 * weights) * (values - np.where(inside, weights, 0))
    others = tuple(i for i in range(len(shape)) if i not in channels)
    expected = 0.5 * errors.sum(others).reshape(-1, 1) / 0.125**2
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=5e-3)


def limits(kind, rng, shape):
    """The lowest and the highest level, and all levels between the two."""
    if kind == "levels":
        levels = np.sort(rng.normal(0, 3, 16)).astype("float32")
        return levels[0], levels[-1], levels
    if kind == "one bit":
        return -1.0, 1.0, np.float32([-1, 1])
    zero = rng.integers(-3, 4, shape).astype("float32")
    return -8 - zero, 7 - zero, np.arange(-11, 12, dtype=np.float32)


@pytest.mark.parametrize("kind", ["levels", "one bit", "zero points"])
@pytest.mark.parametrize(
    "step_shape", [(1, 1, 1, 16), (1, 1, 8, 1), (3, 3, 8, 16), (1, 1, 1, 1)]
)
def test_gradients_of_other_grids_and_of_groups(
    compiles, rng, kind, step_shape
):
    shape = (3, 3, 8, 16)
    weights = rng.normal(0, 1, shape).astype("float32")
    step = np.exp(rng.normal(-1, 0.3, step_shape)).astype("float32")
    low, high, levels = limits(kind, rng, step_shape)
    middles = (levels[1:] + levels[:-1]) / 2
    bits = 1 if kind == "one bit" else 4

    def rounded(w, s):
        if kind == "levels":
            return round_to_levels(w, s, levels, middles)
        return round_to_grid(w, s, low, high, bits)

    values, (passed, slope) = gradients(rounded, weights, step)
    relative = weights / step
    inside = np.clip(relative, low, high)
    places = np.abs(inside[..., None] - levels).argmin(-1)
    np.testing.assert_allclose(values, levels[places] * step, rtol=1e-6)
    received, kept = np.cos(17 * weights), inside == relative
    direct = passed + 17 * values * np.sin(17 * weights)
    np.testing.assert_allclose(direct, received * kept, atol=2e-4)
    errors = received * (levels[places] - np.where(kept, relative, 0))
    repeated = tuple(i for i, size in enumerate(step_shape) if size == 1)
    expected = errors.sum(repeated, keepdims=True)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("hardness", [0.75, 1.0])
@pytest.mark.parametrize("size", [2, 16, 64])
def test_codebooks_are_looked_up_alike(monkeypatch, rng, size, hardness):
    weights = rng.normal(0, 1, SHAPE).astype("float32")
    codebook = np.sort(rng.normal(0, 1, (1, size))).astype("float32")
    found = []
    for training in (False, True):
        monkeypatch.setattr(
            fused_operations, "_is_training", lambda t=training: t
        )
        found.append(
            gradients(
                lambda w, c: share_levels(
                    w, None, c, (1, 1), 1.0, hardness, 12
                ),
                weights,
                codebook,
            )
        )
    exact = {"rtol": 0, "atol": 0 if hardness == 1 else 1e-4}
    np.testing.assert_allclose(found[0][0], found[1][0], **exact)
    for first, second in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 64])
def test_a_hard_codebook_gives_its_levels_exactly(compiles, rng, rows):
    weights = rng.normal(0, 1, SHAPE).astype("float32")
    codebook = (rng.integers(-999, 999, (rows, 16)) / 512).astype("float32")
    unit = np.float32(0.25)
    values = share_levels(
        weights, None, codebook, (1, rows), unit, 1.0, 12
    ).numpy()
    for column in range(SHAPE[1]):
        levels = np.sort(codebook[column % rows]) * unit
        place = places_between(weights[:, column], levels)
        np.testing.assert_array_equal(values[:, column], levels[place])


@pytest.mark.parametrize(
    ("shape", "rows_shape"),
    [
        ((96, 64), (1, 1)),
        ((96, 64), (1, 64)),
        ((96, 64), (96, 1)),
        ((3, 3, 7, 40), (1, 1, 7, 40)),
        ((3, 3, 7, 40), (1, 1, 7, 1)),
        ((1031, 3), (1, 3)),
        ((21013, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("hardness", [0.0, 0.6, 1.0])
def test_strips_give_the_sums_of_single_weights(
    monkeypatch, rng, shape, rows_shape, hardness
):
    rows = math.prod(rows_shape)
    received, weights, scale, codebook = (
        rng.normal(0, 1, size).astype("float32")
        for size in (shape, shape, (1,) * len(shape), (rows, 16))
    )
    given = received, weights, np.exp(scale), codebook, 0.5, hardness
    given = *map(tf.constant, given), 12
    sums = []
    for training in (False, True):
        monkeypatch.setattr(
            fused_operations, "_is_training", lambda t=training: t
        )
        sum_up = codebook_gradients.level_sums(weights.size, 16, rows_shape)
        assert (sum_up.__name__ == "by_place") != training
        sums.append(sum_up(*given).numpy())
    assert sums[0].shape == (rows, 16)
    np.testing.assert_allclose(*sums, rtol=1e-4, atol=1e-3)


def test_a_fit_compiles_and_an_exported_model_does_not(tmp_path, rng):
    x = rng.normal(size=(64, 80)).astype("float32")
    model = keras.Sequential([keras.Input((80,)), keras.layers.Dense(64)])
    model.compile("sgd", "mse")
    before = quantization_aware_rounding._round
    fused_operations._compiled.cache_clear()
    model.fit(
        x,
        x[:, :64],
        epochs=1,
        verbose=0,
        callbacks=[ks.callbacks.QuantizationAwareTraining(4, "mse")],
    )
    assert fused_operations._compiled.cache_info().currsize == 2
    assert quantization_aware_rounding._round is before
    trained = model.predict(x, verbose=0)
    ks.export(model, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), trained, rtol=1e-5, atol=1e-5
    )


def test_without_a_compiler_single_operations_serve(monkeypatch, rng):
    monkeypatch.setattr(fused_operations, "_can_compile", lambda: False)
    monkeypatch.setattr(fused_operations, "_is_training", lambda: True)
    assert fused(np.add, 1 << 20) is np.add


def test_a_learned_grid_is_the_grid_of_the_learned_step(compiles, rng):
    weights = rng.normal(0, 1, SHAPE).astype("float32")
    scale = np.exp(rng.normal(-2, 1, (1, 64))).astype("float32")
    log_step = rng.normal(0, 0.1, (1, 64)).astype("float32")

    def both(w, s):
        return round_to_grid(w, learned_step(scale, s, 0.5), -7.0, 7.0, 4)

    def at_once(w, s):
        return round_to_learned_grid(w, scale, s, -7.0, 7.0, 4, 0.5)

    values, slopes = gradients(both, weights, log_step)
    fused_values, fused_slopes = gradients(at_once, weights, log_step)
    np.testing.assert_array_equal(values, fused_values)
    for slope, other in zip(slopes, fused_slopes, strict=True):
        np.testing.assert_allclose(slope, other, rtol=1e-3, atol=1e-2)


def test_a_step_that_is_not_learned_takes_no_gradient(compiles, rng):
    weights = rng.normal(0, 1, SHAPE).astype("float32")
    step = np.full((1, 64), 0.125, "float32")
    expected, (slope, _) = gradients(
        lambda w, s: round_to_grid(w, s, -7.0, 7.0, 4), weights, step
    )
    values, (passed,) = gradients(
        lambda w: round_to_fixed_grid(w, tf.constant(step), -7.0, 7.0, 4),
        weights,
    )
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_allclose(passed, slope, atol=1e-5)
