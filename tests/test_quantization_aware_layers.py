"""Layers that compute with their kernels rounded, and pass gradients on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from keras_squeeze import quantizers
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.layers import (
    QuantizationAwareDense,
    QuantizationAwareEmbedding,
    freeze,
    quantize_layer,
    to_quantization_aware,
    to_stock,
)
from keras_squeeze.layers.quantization_aware import QuantizationAware
from keras_squeeze.layers.quantization_aware_classes import (
    QUANTIZATION_AWARE_CLASSES,
)
from keras_squeeze.layers.quantization_aware_parents import adopt_parent
from keras_squeeze.layers.quantization_aware_rounding import (
    learned_step,
    round_to_grid,
)
from keras_squeeze.quantizers.scale import round_scale

RNG = np.random.default_rng(0)

GRIDS = [
    ("mse", 8, {}),
    ("mse", 3, {"granularity": "per_group", "group_size": 4}),
    ("absmax", 2, {"granularity": "per_tensor"}),
    ("affine", 4, {}),
    ("affine", 1, {}),
    ("ternary", 2, {}),
    ("binary", 1, {}),
    ("power_of_two", 4, {}),
    ("nf4", 4, {}),
    ("float8_e4m3", 8, {}),
    ("kmeans", 3, {}),
    ("kmeans", 4, {"granularity": "per_tensor"}),
    ("kmeans", 3, {"granularity": "per_group", "group_size": 5}),
]

LAYERS = {
    "dense": (lambda: layers.Dense(3), (2, 4)),
    "einsum": (lambda: layers.EinsumDense("abc,cd->abd", (None, 3)), (2, 3, 4)),
    "conv1d": (lambda: layers.Conv1D(2, 2), (2, 5, 3)),
    "conv2d": (lambda: layers.Conv2D(2, 2, groups=2), (2, 5, 5, 4)),
    "conv3d": (lambda: layers.Conv3D(2, 2), (1, 3, 3, 3, 2)),
    "transposed1": (lambda: layers.Conv1DTranspose(2, 2), (2, 5, 3)),
    "transposed2": (lambda: layers.Conv2DTranspose(2, 2), (2, 4, 4, 3)),
    "transposed3": (lambda: layers.Conv3DTranspose(2, 2), (1, 2, 2, 2, 3)),
    "depthwise1": (lambda: layers.DepthwiseConv1D(2), (2, 5, 3)),
    "depthwise2": (lambda: layers.DepthwiseConv2D(2), (2, 4, 4, 3)),
    "separable1": (lambda: layers.SeparableConv1D(4, 2), (2, 5, 3)),
    "separable2": (lambda: layers.SeparableConv2D(4, 2), (2, 4, 4, 3)),
    "lstm": (lambda: layers.LSTM(3), (2, 4, 3)),
    "gru": (lambda: layers.GRU(3), (2, 4, 3)),
    "simple": (lambda: layers.SimpleRNN(3), (2, 4, 3)),
    "rnn": (lambda: layers.RNN(layers.LSTMCell(3)), (2, 4, 3)),
    "convlstm": (lambda: layers.ConvLSTM1D(2, 2), (1, 3, 4, 2)),
}


def built_dense(kernel=None):
    layer = layers.Dense(4)
    layer.build((None, 6))
    layer.kernel.assign(RNG.normal(size=(6, 4)) if kernel is None else kernel)
    return layer


def convert(layer, quantizer="mse", bits=4, **arguments):
    """Converts the layer, or the cell of a recurrent one."""
    inner = getattr(layer, "cell", layer)
    return inner, to_quantization_aware(inner, quantizer, bits, **arguments)


def gradients(layer, x):
    with tf.GradientTape() as tape:
        loss = ops.sum(ops.sin(layer(x) * 3))
    found = tape.gradient(loss, [v.value for v in layer.trainable_variables])
    return {
        variable.name: None if g is None else np.asarray(g)
        for variable, g in zip(layer.trainable_variables, found, strict=True)
    }


@pytest.mark.parametrize(("quantizer", "bits", "arguments"), GRIDS)
def test_what_is_computed_is_what_freezing_stores(quantizer, bits, arguments):
    layer = built_dense()
    variable = layer.kernel
    _, added = convert(layer, quantizer, bits, **arguments)
    assert layer.kernel_variable() is variable and len(added) == 1
    for each in (variable, *added):
        # As training leaves them: off the grid they began on.
        noise = RNG.normal(scale=0.05, size=each.shape)
        each.assign(each.value + noise.astype("float32"))
    x = RNG.normal(size=(5, 6)).astype("float32")
    expected, kernel = np.asarray(layer(x)), np.asarray(layer.kernel)
    tensor = freeze(layer)["kernel"]
    assert np.array_equal(tensor.dequantize(), kernel)
    assert len(np.unique(tensor.codes)) <= 2**bits
    assert type(layer).__name__ == "QuantizedDense"
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    scale = tensor.scale
    assert np.array_equal(scale, round_scale(scale, 1, up=False))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_every_kind(name):
    make, shape = LAYERS[name]
    layer = make()
    x = RNG.normal(size=shape).astype("float32")
    plain = np.asarray(layer(x))
    inner, added = convert(layer, bits=8)
    assert isinstance(inner, QuantizationAware)
    error = np.abs(np.asarray(layer(x)) - plain).max()
    assert 0 < error < 0.1 * np.abs(plain).max() + 0.02
    found = gradients(layer, x)
    assert all(np.abs(g).max() > 0 for g in found.values()), found
    assert len(added) == len(inner.kernel_names)
    trained = np.asarray(layer(x))
    assert sorted(freeze(inner)) == sorted(inner.layouts)
    np.testing.assert_allclose(layer(x), trained, rtol=1e-4, atol=1e-5)


def test_every_class_of_keras_is_here():
    made = {type(make()) for make, _ in LAYERS.values()}
    made |= {layers.Embedding, layers.ReversibleEmbedding}
    made |= {layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell}
    made.add(type(layers.ConvLSTM1D(1, 1).cell))
    assert set(QUANTIZATION_AWARE_CLASSES) <= made


def test_embeddings_in_both_directions():
    layer = layers.ReversibleEmbedding(7, 3, tie_weights=False)
    rows = np.array([[0, 6], [2, 2]])
    layer(rows)
    convert(layer, bits=3)
    table = layer.quantized_kernel("embeddings").dequantize()
    assert np.array_equal(layer(rows), table[rows])
    back = layer.quantized_kernel("reverse_embeddings").dequantize()
    x = np.ones((1, 3), "float32")
    np.testing.assert_allclose(layer(x, reverse=True), x @ back, rtol=1e-6)
    given = [np.ones((4, 2))]
    made = QuantizationAwareEmbedding(4, 2, weights=given)
    assert np.all(np.asarray(made.kernel_variable()) == 1)


def test_gradients_of_rounding_are_those_of_learned_step_sizes():
    weights = ops.convert_to_tensor([[0.26, -0.9], [0.1, 0.2]])
    step = ops.convert_to_tensor([[0.1, 0.2]])
    with tf.GradientTape() as tape:
        tape.watch([weights, step])
        values = round_to_grid(weights, step, -3.0, 3.0, bits=3)
        loss = ops.sum(values * ops.convert_to_tensor([[1.0, 2], [3, 4]]))
    by_weight, by_step = tape.gradient(loss, [weights, step])
    np.testing.assert_allclose(values, [[0.3, -0.6], [0.1, 0.2]], rtol=1e-6)
    # Nothing passes where a weight is clipped.
    np.testing.assert_allclose(by_weight, [[1, 0], [3, 4]])
    expected = [[1 * (3 - 2.6) + 3 * 0, 2 * -3 + 4 * 0]]
    np.testing.assert_allclose(by_step, expected, atol=1e-5)


def test_a_step_follows_its_gradient_by_percents():
    initial = ops.convert_to_tensor([[1e-4, 2.0]])
    log_step = ops.zeros((1, 2))
    with tf.GradientTape() as tape:
        tape.watch(log_step)
        step = learned_step(initial, log_step, gradient_scale=0.5)
        loss = ops.sum(step * ops.convert_to_tensor([[1e-4, 2.0]]))
    np.testing.assert_allclose(
        tape.gradient(loss, log_step), [[0.5, 0.5]], 0.01
    )
    exact = np.exp(RNG.normal(size=1000) * 5).astype("float32")
    rounded = learned_step(ops.convert_to_tensor(exact), ops.zeros(1000))
    assert np.array_equal(rounded, round_scale(exact, 1, up=False))


def test_levels_of_a_codebook_get_the_sum_of_their_weights_gradients():
    layer = built_dense(RNG.choice([-0.25, 0.0, 0.125, 0.5], size=(6, 4)))
    quantizer = quantizers.get("kmeans", bits=2, granularity="per_tensor")
    convert(layer, quantizer)
    x = np.eye(6, dtype="float32")
    found = gradients(layer, x)
    kernel, by_level = found["kernel"], found["kernel_codebook"]
    values = np.asarray(layer.kernel)
    codebook = np.asarray(layer.kernel_codebook)
    unit = float(layer.kernel_scale[0, 0])
    assert unit < 1
    scale = np.sqrt(24 / 4) * unit
    for level, gradient in zip(codebook[0] * unit, by_level[0], strict=True):
        # A level at zero stays there.
        total = kernel[values == level].sum() if level else 0
        np.testing.assert_allclose(gradient * scale, total, atol=1e-4)


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
def test_weights_belong_to_the_two_levels_they_lie_between(granularity):
    layer = built_dense(
        np.repeat([-1.0, 0.0, 0.5, 2.0, 2.0, 2.0], 4).reshape(6, 4)
    )
    quantizer = quantizers.get("kmeans", bits=2, granularity=granularity)
    convert(layer, quantizer)
    kernel = layer.kernel_variable()
    for hardness, weight, value in (
        (0, 0.4, 0.4),
        (0, -1.5, -1.5),
        (0, 3, 3),
        (0.5, 0.1, 0),
        (0.5, 0.2, 0.15),
        (0.5, 1.1, 0.95),
        (0.5, 1.7, 2),
        (0.75, -0.55, -0.7),
        (0.75, 3, 2.25),
        (0.75, 0, 0),
        (1, 0.24, 0),
        (1, 0.26, 0.5),
        (1, -3, -1),
    ):
        layer.assign_hardness(hardness)
        kernel.assign(np.full((6, 4), weight))
        np.testing.assert_allclose(layer.kernel, value, rtol=1e-4, atol=1e-6)


def test_both_levels_of_a_weight_learn_by_how_much_it_belongs_to_them():
    layer = built_dense(np.repeat([-1.0, 0.5, 0.75, 2.0], 6).reshape(6, 4))
    convert(layer, quantizers.get("kmeans", bits=2, granularity="per_tensor"))
    layer.assign_hardness(0.5)
    weights = np.full((6, 4), -1.0)
    weights[0] = 1.1875
    layer.kernel_variable().assign(weights)
    by_level = gradients(layer, np.eye(6)[:1].astype("float32"))
    by_level = by_level["kernel_codebook"][0]
    # Seven twentieths of the way from 0.75 to 2, from a quarter to three.
    np.testing.assert_allclose(by_level[3] / by_level[2], 1 / 4, rtol=1e-4)


@pytest.mark.parametrize("hardness", [0.0, 0.37, 0.9, 1.0])
def test_a_weight_on_a_level_is_that_level_to_the_bit(hardness):
    rng = np.random.default_rng(3)
    layer = built_dense(rng.normal(size=(6, 4)))
    convert(layer, quantizers.get("kmeans", bits=4, granularity="per_tensor"))
    codebook = rng.integers(-999, 999, (1, 16)) / 512
    codebook[0, 5] = 0
    layer.kernel_codebook.assign(codebook)
    unit = float(layer.kernel_scale[0, 0])
    weights = np.resize(codebook[0] * unit, (6, 4)).astype("float32")
    layer.kernel_variable().assign(weights)
    layer.assign_hardness(hardness)
    np.testing.assert_array_equal(layer.kernel, weights)


def test_levels_may_overtake_each_other():
    layer = built_dense(
        np.repeat([-1.0, 0.0, 0.5, 2.0, 2.0, 2.0], 4).reshape(6, 4)
    )
    convert(layer, quantizers.get("kmeans", bits=2, granularity="per_tensor"))
    layer.kernel_codebook.assign(layer.kernel_codebook[:, ::-1])
    kernel = RNG.normal(size=(6, 4)).astype("float32")
    layer.kernel_variable().assign(kernel)
    levels = np.array([-1.0, 0.0, 0.5, 2.0])
    nearest = levels[np.abs(kernel[..., None] - levels).argmin(-1)]
    np.testing.assert_array_equal(layer.kernel, nearest)
    tensor = layer.quantized_kernel()
    np.testing.assert_array_equal(tensor.dequantize(), nearest)


@pytest.mark.parametrize("quantizer", ["mse", "affine", "kmeans", "nf4"])
def test_zeros_stay_zero(quantizer):
    kernel = RNG.normal(size=(6, 4))
    kernel[RNG.random((6, 4)) < 0.5] = 0
    kernel[:, 1] = 0
    layer = built_dense(kernel)
    convert(layer, quantizer)
    assert np.all(np.asarray(layer.kernel)[kernel == 0] == 0)
    # A channel that was empty can fill again.
    layer.kernel_variable().assign(np.ones((6, 4)))
    if quantizer != "kmeans":
        assert np.asarray(layer.kernel)[:, 1].any()


def test_a_quantized_layer_is_trained_on_the_grid_it_has():
    layer = built_dense()
    tensor = quantize_layer(layer, "absmax", bits=3)
    convert(layer, "mse", bits=8)
    assert layer.kernel_quantizer.bits == 3
    assert np.array_equal(layer.kernel, tensor.dequantize())
    assert layer.kernel_variable().trainable
    again = freeze(layer)["kernel"]
    assert np.array_equal(again.codes, tensor.codes)
    assert np.array_equal(again.scale, tensor.scale)


def test_back_to_the_class_of_keras():
    layer = built_dense()
    variable, names = layer.kernel, [v.name for v in layer.variables]
    convert(layer)
    to_stock(layer)
    assert type(layer) is layers.Dense and layer.kernel is variable
    assert [v.name for v in layer.variables] == names


@pytest.mark.parametrize("quantizer", ["affine", "kmeans"])
def test_config_and_file_round_trip(quantizer, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4, 6)),
            layers.LSTM(3, return_sequences=True),
            layers.SeparableConv1D(3, 2),
            layers.Dense(2),
        ]
    )
    for layer in model.layers:
        convert(layer, quantizer, 4)
    model.layers[2].trainable = False
    adopt_parent(model.layers[0])
    x = RNG.normal(size=(2, 4, 6)).astype("float32")
    expected = np.asarray(model(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(each).__name__ for each in loaded.layers] == [
        "QuantizationAwareLSTM",
        "QuantizationAwareSeparableConv1D",
        "QuantizationAwareDense",
    ]
    np.testing.assert_array_equal(loaded(x), expected)
    names = [v.name for v in model.trainable_variables]
    assert [v.name for v in loaded.trainable_variables] == names
    for one, other in zip(model.weights, loaded.weights, strict=True):
        assert one.name == other.name and np.array_equal(one, other)


@pytest.mark.parametrize(
    ("quantizer", "granularity"),
    [
        ("mse", "per_tensor"),
        ("float8_e4m3", "per_channel"),
        ("kmeans", "per_channel"),
        ("kmeans", "per_tensor"),
    ],
)
def test_a_new_layer_begins_with_grids_over_its_kernel(quantizer, granularity):
    layer = QuantizationAwareDense(
        4, kernel_quantizer=quantizer, bits=8, granularity=granularity
    )
    layer.build((None, 6))
    kernel = np.asarray(layer.kernel_variable())
    assert np.abs(np.asarray(layer.kernel) - kernel).max() < 0.05
    same = QuantizationAwareDense.from_config(layer.get_config())
    assert same.get_config() == layer.get_config()


def test_half_precision_computes_what_is_stored():
    layer = layers.Dense(4, dtype="mixed_bfloat16")
    layer.build((None, 6))
    convert(layer)
    x = np.eye(6, dtype="float32")
    trained = np.asarray(ops.cast(layer(x), "float32"))
    exact = layer.quantized_kernel().dequantize()
    rounded = ops.cast(ops.cast(exact, "bfloat16"), "float32")
    assert np.array_equal(trained, rounded)


def test_weights_of_a_plain_layer_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
    model.save_weights(tmp_path / "plain.weights.h5")
    convert(model.layers[0])
    with pytest.raises(ValueError, match="trained with quantization"):
        model.load_weights(tmp_path / "plain.weights.h5")


def test_bad_input_changes_nothing():
    layer = built_dense(np.full((6, 4), np.nan))
    with pytest.raises(NonFiniteError, match="kernel"):
        convert(layer)
    assert type(layer) is layers.Dense
    with pytest.raises(SqueezeError, match="Received"):
        to_quantization_aware(layers.BatchNormalization())
    with pytest.raises(SqueezeError, match="bits"):
        convert(built_dense(), bits=16)
    layer = built_dense()
    convert(layer)
    with pytest.raises(SqueezeError, match="already"):
        convert(layer)
    with pytest.raises(SqueezeError, match="LoRA"):
        layer.enable_lora(2)
    layer.kernel_variable().assign(np.full((6, 4), np.inf))
    with pytest.raises(SqueezeError, match="finite"):
        freeze(layer)
    assert isinstance(layer, QuantizationAwareDense)
