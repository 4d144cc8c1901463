"""Units that change a model but not what it predicts."""

import keras
import numpy as np
import pytest

from keras_squeeze import quantizers
from keras_squeeze.calibration.activation_scaling import scale_activations
from keras_squeeze.calibration.batch_norm_folding import fold_batch_norm
from keras_squeeze.calibration.channel_links import channel_links
from keras_squeeze.calibration.equalization import equalize
from keras_squeeze.calibration.layer_graph import LayerGraph
from keras_squeeze.surgery import copy_model, encode_kernels, find_kernels

L = keras.layers


def randomize(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed" in variable.path:
            continue
        value = rng.normal(size=variable.shape)
        if "variance" in variable.path:
            value = np.abs(value) + 0.1
        variable.assign(value)
    return model


def convolutional():
    inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(4, 3, use_bias=False, name="first")(inputs)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise")(x)
    x = L.ReLU()(L.BatchNormalization()(x))
    y = L.SeparableConv2D(8, 1, use_bias=False, name="separable")(x)
    x = L.Add()([x, L.BatchNormalization(scale=False)(y)])
    x = L.Conv2DTranspose(3, 2, name="transposed")(x)
    x = L.Flatten()(L.MaxPooling2D(2)(L.BatchNormalization()(x)))
    head = keras.Sequential([L.Dense(5, name="hidden"), L.BatchNormalization()])
    outputs = L.Dense(2, name="last")(L.LeakyReLU()(head(x)))
    return randomize(keras.Model(inputs, outputs))


def images(count=3, shape=(6, 6, 3)):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, *shape)).astype("float32")


def assert_alike(model, other, x):
    expected = np.asarray(model(x))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        np.asarray(other(x)), expected, atol=2e-5 * scale
    )


def test_folded_normalizations_vanish_and_predictions_stay(tmp_path):
    model, x = convolutional(), images()
    folded = copy_model(model)
    names = [layer.name for layer in fold_batch_norm(folded)]
    assert names == ["first", "depthwise", "separable", "transposed", "hidden"]
    assert not any("moving" in variable.path for variable in folded.variables)
    assert folded.get_layer("first").use_bias
    assert_alike(model, folded, x)
    assert_alike(folded, copy_model(folded), x)
    folded.save(tmp_path / "m.keras")
    assert_alike(folded, keras.models.load_model(tmp_path / "m.keras"), x)
    assert fold_batch_norm(folded) == []


def test_normalizations_that_others_need_are_not_folded():
    inputs = keras.Input((3,))
    x = L.Dense(3, activation="relu")(inputs)
    x = L.Dense(3)(L.BatchNormalization()(x))
    x = L.Add()([L.BatchNormalization()(x), x])
    y = L.Dense(3)(x)
    model = keras.Model(inputs, [L.BatchNormalization()(y), y])
    assert fold_batch_norm(model) == []


def test_equalized_channels_have_equal_ranges_and_predictions_stay():
    model = convolutional()
    fold_batch_norm(model)
    equalized = copy_model(model)
    pairs = [
        (link.producer.name, link.readers[0].name)
        for link, _ in equalize(equalized)
    ]
    assert pairs == [
        ("first", "depthwise"),
        ("transposed", "hidden"),
        ("hidden", "last"),
    ]
    assert_alike(model, equalized, images())
    made = np.abs(equalized.get_layer("first").kernel).max((0, 1, 2))
    read = np.abs(equalized.get_layer("depthwise").kernel).max((0, 1, 3))
    np.testing.assert_allclose(made, read, rtol=5e-3)


@pytest.mark.parametrize(
    "between",
    [
        L.ReLU(max_value=6.0),
        L.Activation("sigmoid"),
        L.BatchNormalization(),
        L.Reshape((2, 2)),
    ],
)
def test_nothing_is_rescaled_across_what_has_a_bend(between):
    layers = [L.Dense(4), between, L.Dense(2)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    assert channel_links(model) == []


def test_dead_channels_are_left_as_they_are():
    layers = [L.Dense(2), L.Dense(2)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    layers[0].kernel.assign([[0.0, 4.0], [0.0, 2.0]])
    layers[1].kernel.assign([[3.0, 5.0], [1.0, 0.5]])
    equalize(model)
    np.testing.assert_allclose(layers[0].kernel, [[0, 2], [0, 1]])
    np.testing.assert_allclose(layers[1].kernel, [[3, 5], [2, 1]])


def output_error(model, x, quantized):
    before = np.asarray(model(x))
    after = copy_model(model)
    kernels = find_kernels(after)
    for kernel, tensor in zip(
        kernels,
        encode_kernels(after, quantizer=quantized).values(),
        strict=True,
    ):
        kernel.variable.assign(tensor.dequantize())
    return float(np.mean((np.asarray(after(x)) - before) ** 2))


def test_equalization_saves_a_model_of_uneven_channels():
    layers = [L.Dense(8, activation="relu"), L.Dense(4)]
    model = randomize(keras.Sequential([keras.Input((6,)), *layers]))
    uneven = 10 ** np.linspace(-2, 2, 8)
    layers[0].kernel.assign(layers[0].kernel * uneven)
    layers[0].bias.assign(layers[0].bias * uneven)
    layers[1].kernel.assign(layers[1].kernel / uneven[:, None])
    quantizer = quantizers.get("mse", bits=6, granularity="per_tensor")
    x = images(20, (6,))
    before = output_error(model, x, quantizer)
    equalize(model)
    assert output_error(model, x, quantizer) < 0.1 * before


@pytest.mark.parametrize("producer", ["normalization", "dense"])
def test_activation_scaling_gives_large_inputs_finer_weights(producer):
    layers = {
        "normalization": [L.LayerNormalization()],
        "dense": [L.Dense(16, activation="relu")],
    }[producer]
    model = keras.Sequential([keras.Input((16,)), *layers, L.Dense(4)])
    randomize(model)
    large = np.where(np.arange(16) < 2, 30.0, 1.0)
    if producer == "normalization":
        layers[0].gamma.assign(large)
    else:
        layers[0].kernel.assign(layers[0].kernel * large)
    x = images(40, (16,))
    original = copy_model(model)
    quantizer = quantizers.get("mse", bits=3)
    chosen = {kernel.path: quantizer for kernel in find_kernels(model)}
    assert scale_activations(model, x, chosen) == 1
    assert_alike(original, model, x)
    last = quantizers.get("mse", bits=3)
    assert output_error(model, x, last) < output_error(original, x, last)


def test_shared_layers_and_branches_are_seen_in_the_graph():
    shared = L.Dense(3)
    inputs = keras.Input((3,))
    x = shared(shared(inputs))
    model = keras.Model(inputs, L.Add()([L.ReLU()(x), x]))
    graph = LayerGraph(model)
    assert graph.only_call(shared) is None
    assert [call.layer.name for call in graph.calls][:2] == [shared.name] * 2
    assert graph.only_reader(graph.calls[1]) is None
    assert len(graph.readers(graph.calls[1])) == 2
