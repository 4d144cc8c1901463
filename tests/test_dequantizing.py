"""A quantized layer becomes the Keras layer that it was."""

import keras
import numpy as np
import pytest

from keras_squeeze.errors import SqueezeError, UnbuiltModelError
from keras_squeeze.layers import QuantizedDense, quantize_layer
from keras_squeeze.layers.conversion import QUANTIZED_CLASSES
from keras_squeeze.layers.dequantizing import dequantize_layer
from keras_squeeze.surgery.layer_tree import to_numpy
from tests.layer_cases import CASES, inputs, outputs

L = keras.layers


def built(stock, **more):
    """A layer of a class of Keras with weights of its own."""
    layer = stock(name="layer", **CASES[stock][0], **more)
    with keras.name_scope("model"):
        outputs(layer, stock)
    rng = np.random.default_rng(0)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape))
    return layer


def described(layer):
    """All that can be seen of a layer but its values."""
    variables = [
        (
            v.path,
            v.name,
            v.dtype,
            v.trainable,
            type(v.regularizer),
            type(v.constraint),
        )
        for v in layer.weights
    ]
    return type(layer), variables, layer.get_config(), set(vars(layer))


def saved(layer):
    store = {}
    layer.save_own_variables(store)
    return {key: np.asarray(value).shape for key, value in store.items()}


def test_every_quantized_class_has_a_case():
    assert set(CASES) == set(QUANTIZED_CLASSES)


@pytest.mark.parametrize("stock", CASES, ids=lambda kind: kind.__name__)
def test_becomes_what_keras_had_built(stock):
    layer = built(stock)
    stored, before = saved(layer), described(layer)
    quantize_layer(layer, bits=4)
    tensors = {n: layer.quantized_kernel(n) for n in layer.layouts}
    expected = outputs(layer, stock)
    kernels = dequantize_layer(layer)
    assert list(kernels) == list(tensors)
    for name, tensor in tensors.items():
        assert getattr(layer, name) is kernels[name]
        np.testing.assert_array_equal(kernels[name], tensor.dequantize())
    for a, b in zip(outputs(layer, stock), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    after = described(layer)
    assert after[:3] == before[:3]
    assert after[3] | {"build"} == before[3] | {"build"}
    assert saved(layer) == stored


@pytest.mark.parametrize("stock", CASES, ids=lambda kind: kind.__name__)
def test_from_a_layer_that_was_built_quantized(stock):
    kind = QUANTIZED_CLASSES[stock]
    layer = kind(name="layer", bits=2, **CASES[stock][0])
    with keras.name_scope("model"):
        outputs(layer, stock)
    dequantize_layer(layer)
    after, fresh = described(layer), described(built(stock))
    assert after[:3] == fresh[:3]
    assert after[3] | {"build"} == fresh[3] | {"build"}


def test_kernel_trains():
    layer = built(L.Dense)
    quantize_layer(layer, bits=4)
    dequantize_layer(layer)
    model = keras.Sequential([layer])
    model.compile("sgd", "mse", run_eagerly=True)
    before = to_numpy(layer.kernel)
    model.fit(inputs(L.Dense), np.zeros((2, 5)), verbose=0)
    assert np.any(before != to_numpy(layer.kernel))


def test_frozen_layer_stays_frozen():
    layer = built(L.Conv2D)
    layer.trainable = False
    quantize_layer(layer)
    dequantize_layer(layer)
    assert layer.trainable_variables == [] and not layer.kernel.trainable
    layer.trainable = True
    assert [v.name for v in layer.trainable_variables] == ["kernel", "bias"]


def test_kernel_keeps_the_dtypes_of_the_policy():
    layer, x = built(L.Dense, dtype="mixed_bfloat16"), inputs(L.Dense)
    quantize_layer(layer, bits=8)
    expected = layer(x)
    dequantize_layer(layer)
    assert (layer.kernel.dtype, layer(x).dtype) == ("float32", "bfloat16")
    difference = keras.ops.cast(layer(x) - expected, "float32")
    assert np.max(np.abs(difference)) <= 2**-6 * np.max(np.abs(expected))


def test_keras_can_quantize_it_then():
    layer, x = built(L.Dense), inputs(L.Dense)
    quantize_layer(layer, bits=8)
    dequantize_layer(layer)
    before = layer(x)
    layer.quantize("int8")
    assert layer.quantization_mode == "int8"
    np.testing.assert_allclose(layer(x), before, atol=0.2)


def test_can_be_quantized_again_without_loss():
    layer = built(L.Dense)
    first = quantize_layer(layer, bits=4)
    dequantize_layer(layer)
    second = quantize_layer(layer, bits=4)
    np.testing.assert_array_equal(first.dequantize(), second.dequantize())


class Own(QuantizedDense):
    """Nobody knows what its `call` needs."""


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        (QuantizedDense(2), UnbuiltModelError),
        (L.Dense(2), SqueezeError),
        (Own(2), SqueezeError),
    ],
)
def test_refuses_and_changes_nothing(layer, error):
    if error is not UnbuiltModelError:
        layer.build((None, 3))
    before = described(layer)
    with pytest.raises(error, match="Received: "):
        dequantize_layer(layer)
    assert described(layer) == before
