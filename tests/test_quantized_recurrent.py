"""Recurrent layers with quantized cells."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_squeeze import layers as Q
from keras_squeeze import quantizers
from keras_squeeze.layers.conversion import (
    convert_layer,
    encode_kernels,
    kernel_variables,
)
from keras_squeeze.layers.quantized_recurrent_cell import QuantizedCell
from keras_squeeze.surgery.copying import copy_model
from keras_squeeze.surgery.layer_tree import walk_layers
from keras_squeeze.surgery.quantized_structure import (
    adopt_parents,
    describe_quantized_layers,
    restore_quantized_layers,
)

L = keras.layers
SERIES, IMAGES = (2, 5, 3), (2, 3, 5, 5, 2)
CASES = {
    "lstm": (lambda: L.LSTM(4, return_sequences=True), SERIES),
    "gru": (lambda: L.GRU(4), SERIES),
    "gru_reset_before": (
        lambda: L.GRU(4, reset_after=False, recurrent_dropout=0.2),
        SERIES,
    ),
    "simple": (lambda: L.SimpleRNN(4, unroll=True), SERIES),
    "rnn": (lambda: L.RNN(L.GRUCell(4)), SERIES),
    "stacked": (lambda: L.RNN([L.LSTMCell(3), L.SimpleRNNCell(4)]), SERIES),
    "bidirectional": (lambda: L.Bidirectional(L.LSTM(3)), SERIES),
    "conv_lstm": (lambda: L.ConvLSTM2D(2, 3, padding="same"), IMAGES),
}


def model_of(case):
    make, shape = CASES[case]
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, make()(inputs))
    generator = np.random.default_rng(1)
    for variable in model.trainable_variables:
        value = generator.normal(scale=0.4, size=variable.shape)
        variable.assign(value.astype("float32"))
    return model, generator.normal(size=shape).astype("float32")


def cells_of(model):
    kinds = (L.LSTMCell, L.GRUCell, L.SimpleRNNCell)
    return [
        layer
        for _, layer in walk_layers(model)
        if isinstance(layer, kinds) or "LSTMCell" in type(layer).__name__
    ]


def quantized(case, identifier="affine", bits=4):
    """The model with quantized cells, and the stock one of equal kernels."""
    model, x = model_of(case)
    stock, _ = model_of(case)
    quantizer = quantizers.get(identifier, bits=bits)
    for cell, plain in zip(cells_of(model), cells_of(stock), strict=True):
        tensors = encode_kernels(cell, quantizer)
        convert_layer(cell, quantizer, tensors)
        for name, variable in kernel_variables(plain).items():
            variable.assign(tensors[name].dequantize())
    adopt_parents(model)
    return model, stock, x


def numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


@pytest.mark.parametrize("case", CASES)
def test_equals_the_float_layer_and_comes_back(case, tmp_path):
    model, stock, x = quantized(case)
    expected = numpy(stock(x))
    assert all(isinstance(cell, QuantizedCell) for cell in cells_of(model))
    if case != "bidirectional":
        stock_class = type(stock.layers[1]).__name__
        assert type(model.layers[1]).__name__ == f"Quantized{stock_class}"
    np.testing.assert_allclose(numpy(model(x)), expected, atol=1e-5)
    # What the formats add to the config is the same for all layers.
    every = case in ("stacked", "bidirectional")
    for suffix in (".keras", ".h5") if every else ():
        path = str(tmp_path / f"model{suffix}")
        model.save(path)
        again = keras.models.load_model(path, compile=False)
        assert_alike(again, model, x)
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    assert_alike(again, model, x)


def test_weights_files_and_copies(tmp_path):
    model, _, x = quantized("bidirectional", "kmeans", bits=2)
    path = str(tmp_path / "model.weights.h5")
    model.save_weights(path)
    again = copy_model(model)
    again.set_weights([0 * weight for weight in again.get_weights()])
    again.load_weights(path)
    assert_alike(again, model, x)


def assert_alike(again, model, x):
    kinds = [type(layer) for _, layer in walk_layers(model)]
    assert [type(layer) for _, layer in walk_layers(again)] == kinds
    assert describe_quantized_layers(again) == describe_quantized_layers(model)
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))


def test_both_directions_are_adopted():
    both = quantized("bidirectional", "nf4")[0].layers[1]
    assert type(both.forward_layer) is type(both.backward_layer)
    assert type(both.forward_layer) is Q.QuantizedLSTM


def test_layers_of_their_own():
    for kind, arguments, shape in [
        (Q.QuantizedLSTM, {"units": 3}, SERIES),
        (Q.QuantizedGRU, {"units": 3}, SERIES),
        (Q.QuantizedSimpleRNN, {"units": 3}, SERIES),
        (Q.QuantizedConvLSTM1D, {"filters": 2, "kernel_size": 3}, (2, 3, 5, 2)),
    ]:
        layer = kind(**arguments, kernel_quantizer="nf4", bits=4)
        config = layer.get_config()
        assert (config["kernel_quantizer"], config["bits"]) == ("nf4", 4)
        layer.build(shape)
        assert isinstance(layer.cell, QuantizedCell)
        assert layer.get_config() == config
        again = kind.from_config(config)
        again.build(shape)
        assert [v.path for v in again.weights] == [
            v.path for v in layer.weights
        ]
        x = np.ones(shape, "float32")
        assert np.array_equal(numpy(again(x)), numpy(layer(x)))


def test_kernels_are_computed_once_for_all_time_steps():
    model, _, x = quantized("lstm", "absmax")
    function = tf.function(model)
    graph = function.get_concrete_function(tf.TensorSpec(x.shape)).graph
    inside = [
        node.op
        for body in graph.as_graph_def().library.function
        for node in body.node_def
    ]
    assert "MatMul" in inside
    assert not {"BitwiseAnd", "BitwiseXor", "RightShift"} & set(inside)
    outside = {operation.type for operation in graph.get_operations()}
    assert {"BitwiseAnd", "BitwiseXor", "RightShift"} <= outside
    np.testing.assert_allclose(
        numpy(function(x)), numpy(model(x)), rtol=1e-5, atol=1e-6
    )


def test_stateful_masked_and_trained():
    model = keras.Sequential(
        [
            keras.Input((5, 3), batch_size=2),
            L.Masking(),
            L.LSTM(4, stateful=True, dropout=0.3, name="lstm"),
            L.Dense(1),
        ]
    )
    cell = model.get_layer("lstm").cell
    quantizer = quantizers.get("mse", bits=4)
    convert_layer(cell, quantizer, encode_kernels(cell, quantizer))
    adopt_parents(model)
    before = [v.numpy() for v in cell.non_trainable_variables]
    bias = cell.bias.numpy()
    model.compile("sgd", keras.losses.MeanSquaredError(), run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    x[:, 3:] = 0
    model.fit(x, np.ones((2, 1)), epochs=2, batch_size=2, verbose=0)
    assert not np.array_equal(cell.bias.numpy(), bias)
    for variable, old in zip(cell.non_trainable_variables, before, strict=True):
        if "codes" in variable.name or "scale" in variable.name:
            assert np.array_equal(variable.numpy(), old)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    layer = Q.QuantizedGRU(3, bits=8, dtype=policy)
    layer.build(SERIES)
    exact = L.GRU(3)
    exact.build(SERIES)
    generator = np.random.default_rng(0)
    for name, variable in kernel_variables(exact.cell).items():
        value = generator.normal(scale=0.3, size=variable.shape)
        tensor = layer.cell.assign_kernel(value, kernel=name)
        variable.assign(tensor.dequantize())
    x = generator.normal(size=SERIES).astype("float32")
    outputs = layer(x)
    assert outputs.dtype == layer.compute_dtype
    np.testing.assert_allclose(
        numpy(outputs).astype("float32"), numpy(exact(x)), atol=0.03
    )


def test_restoring_from_a_description():
    small, _, x = quantized("stacked", "kmeans", bits=2)
    fresh, _ = model_of("stacked")
    names = zip(walk_layers(fresh), walk_layers(small), strict=True)
    for (_, layer), (_, other) in names:
        layer.name = other.name
    restore_quantized_layers(fresh, describe_quantized_layers(small))
    assert type(fresh.layers[1]) is Q.QuantizedRNN
    fresh.set_weights(small.get_weights())
    np.testing.assert_array_equal(numpy(fresh(x)), numpy(small(x)))


def test_recurrent_layers_of_a_user_stay_their_class():
    class Mine(L.LSTM):
        pass

    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, Mine(4)(inputs))
    cell = model.layers[1].cell
    quantizer = quantizers.get("absmax", bits=4)
    convert_layer(cell, quantizer, encode_kernels(cell, quantizer))
    adopt_parents(model)
    assert type(model.layers[1]) is Mine
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    graph = tf.function(model)
    np.testing.assert_allclose(
        numpy(graph(x)), numpy(model(x)), rtol=1e-5, atol=1e-6
    )
