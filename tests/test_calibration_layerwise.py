"""Layers quantized one after the other on calibration data."""

import keras
import numpy as np
import pytest

from keras_squeeze import quantizers
from keras_squeeze.calibration.calibrating import calibrate, check_method
from keras_squeeze.calibration.lanes import Lane
from keras_squeeze.calibration.layerwise import LayerUnits, quantize_layerwise
from keras_squeeze.calibration.output_error import output_snr_db
from keras_squeeze.calibration.paired_statistics import (
    PairedStatistics,
    aligned_matrix,
)
from keras_squeeze.calibration.samples import sample_batches
from keras_squeeze.calibration.workplace import workplace
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.surgery import copy_model, find_kernels
from tests import models

L = keras.layers


def correlated(count, features, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.normal(size=(count, 3)) @ rng.normal(size=(3, features))
    return (low + 0.3 * rng.normal(size=low.shape) + 1).astype("float32")


def dense():
    layers = [L.Dense(12, activation="relu"), L.Dense(12, activation="relu")]
    model = keras.Sequential([keras.Input((10,)), *layers, L.Dense(4)])
    return models.randomize(model), correlated(96, 10)


def normalized():
    layers = [
        L.Conv2D(6, 3, use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(6, 3, use_bias=False),
        L.BatchNormalization(),
        L.GlobalAveragePooling2D(),
    ]
    model = keras.Sequential([keras.Input((8, 8, 2)), *layers, L.Dense(3)])
    models.randomize(model)
    x = correlated(32, 128).reshape(32, 8, 8, 2)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.0
            layer.moving_variance.assign(np.ones(6))
    model(x, training=True)
    return model, x


def run(model, x, bits=3, **units):
    work = copy_model(model)
    quantizer = quantizers.get("mse", bits=bits)
    chosen = {kernel.path: quantizer for kernel in find_kernels(work)}
    found = quantize_layerwise(
        work, sample_batches(model, x), chosen, LayerUnits(**units)
    )
    return work, found.tensors, output_snr_db(found.outputs, found.wanted)


@pytest.mark.parametrize("kind", ["functional", "nested", "subclassed"])
def test_lanes_compute_what_the_model_does(kind):
    model, x = models.make(kind)
    lane = Lane(model, [x, x])
    for call in lane.calls:
        lane.run(call)
    expected = keras.tree.flatten(model(x))
    for outputs in lane.outputs():
        for found, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_reconstruction_and_corrected_biases_lower_the_error():
    model, x = dense()
    _, _, rounded = run(model, x)
    _, _, alone = run(model, x, reconstruct=True, align=False)
    _, _, aligned = run(model, x, reconstruct=True)
    work, tensors, all_units = run(
        model, x, reconstruct=True, correct_bias=True
    )
    assert rounded + 3 < alone < aligned
    assert all_units > rounded + 6
    for kernel in find_kernels(work):
        np.testing.assert_array_equal(
            kernel.variable.numpy(), tensors[kernel.path].dequantize()
        )


def test_corrected_biases_bring_back_the_mean_of_each_output():
    model, x = dense()
    work, _, _ = run(model, x, correct_bias=True)
    np.testing.assert_allclose(
        np.mean(work(x), axis=0), np.mean(model(x), axis=0), atol=1e-4
    )


def test_moving_statistics_follow_their_inputs():
    model, x = normalized()
    _, _, rounded = run(model, x, bits=2)
    work, _, followed = run(model, x, bits=2, reestimate_batch_norm=True)
    assert followed > rounded + 1
    before = keras.Model(model.inputs, model.layers[4].output)(x)
    after = keras.Model(work.inputs, work.layers[4].output)(x)
    for moment in (np.mean, np.std):
        np.testing.assert_allclose(
            moment(np.asarray(after), axis=(0, 1, 2)),
            moment(np.asarray(before), axis=(0, 1, 2)),
            atol=0.02,
        )


def test_nothing_moves_where_nothing_is_lost():
    model, x = normalized()
    same = run(model, x, bits=16, reestimate_batch_norm=True)[0]
    for old, new in zip(model.weights, same.weights, strict=True):
        np.testing.assert_allclose(old, new, rtol=2e-3, atol=2e-3)


def test_pruned_weights_stay_zero():
    model, x = dense()
    kernel = model.layers[1].kernel
    kernel.assign(np.where(np.abs(kernel) < 0.7, 0, kernel))
    zero = np.asarray(kernel) == 0
    work, _, _ = run(model, x, bits=4, reconstruct=True, correct_bias=True)
    assert zero.mean() > 0.3
    assert not np.asarray(work.layers[1].kernel)[zero].any()


@pytest.mark.parametrize("kind", ["separable", "attention", "subclassed"])
def test_layers_of_all_kinds_are_reconstructed(kind):
    model, x = models.make(kind)
    x = np.concatenate([x] * 3)
    _, tensors, rounded = run(model, x)
    _, found, better = run(model, x, reconstruct=True, correct_bias=True)
    assert set(found) == set(tensors)
    assert better > rounded


def test_a_matrix_for_moved_inputs_keeps_the_products():
    rng = np.random.default_rng(0)
    x, moved = rng.normal(size=(2, 1, 200, 5))
    moved = x + 0.3 * moved
    found = PairedStatistics("kernel", calls=1)
    found.add(moved, x)
    matrix = rng.normal(size=(1, 5, 2))
    aligned = aligned_matrix(matrix, found.gram, found.cross, 1e-6)

    def error(candidate):
        return np.mean((moved @ candidate - x @ matrix) ** 2)

    assert error(aligned) < 0.95 * error(matrix)
    unmoved = PairedStatistics("kernel")
    unmoved.add(x, x)
    same = aligned_matrix(matrix, unmoved.gram, unmoved.cross, 0.01)
    np.testing.assert_array_equal(same, matrix)


def test_auto_keeps_what_helps_and_says_so():
    model, x = dense()
    quantizer = quantizers.get("mse", bits=3)
    chosen = {kernel.path: quantizer for kernel in find_kernels(model)}
    batches = sample_batches(model, x)
    found = calibrate(
        workplace(model), batches, chosen, None, lambda work: {"figure": 1}
    )
    steps = [
        found.figures[f"output_snr_db_{u}"] for u in ("round", *found.units)
    ]
    assert "reconstruct" in found.units
    assert found.figures["output_snr_db"] == max(steps)
    assert found.figures["figure_round"] == 1
    with found.state.shown() as work:
        outputs = [[work(batch)] for batch in batches]
    ratio = output_snr_db(outputs, [[model(batch)] for batch in batches])
    assert ratio == pytest.approx(found.figures["output_snr_db"], abs=0.01)


def test_activations_that_are_not_finite_name_the_kernel():
    model, x = dense()
    model.layers[0].bias.assign(np.full(12, np.inf))
    with pytest.raises(NonFiniteError, match=r"where dense_?\d*/kernel reads"):
        run(model, x, reconstruct=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 10), "float32"), r"at least one sample.*Received"),
        (np.zeros((4, 9), "float32"), r"shape \(None, 10\).*\(4, 9\)"),
        (np.full((4, 10), np.nan, "float32"), r"Received: 40 NaN"),
    ],
)
def test_calibration_data_that_does_not_fit(data, message):
    model, _ = dense()
    with pytest.raises(SqueezeError, match=message):
        sample_batches(model, data)


def test_methods():
    assert check_method("auto", True) is None
    assert check_method("auto", False) == check_method("round", True) == ()
    units = check_method(["correct_bias", "fold_batch_norm"], False)
    assert units == ("fold_batch_norm", "correct_bias")
    with pytest.raises(SqueezeError, match=r"Received: method='best'"):
        check_method("best", True)
    with pytest.raises(SqueezeError, match=r"reconstruct.*Received: None"):
        check_method(["reconstruct"], False)
