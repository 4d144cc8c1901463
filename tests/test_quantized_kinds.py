"""Every quantizer in every layer: what the layer computes with its codes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_squeeze import layers as Q
from keras_squeeze import quantizers
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.codebook_lookup import look_up
from keras_squeeze.layers.conversion import (
    convert_layer,
    encode_kernels,
    kernel_variables,
)
from keras_squeeze.quantizers import pack_codes, storage_width
from tests.test_quantized_layers import CASES, built, numpy

L = keras.layers
GROUPS = {"granularity": "per_group", "group_size": 3}
TENSOR = {"granularity": "per_tensor"}
KINDS = {
    "absmax": {"id": "absmax", "bits": 5},
    "mse_groups": {"id": "mse", "bits": 3, **GROUPS},
    "percentile": {"id": "percentile", "bits": 4},
    "entropy": {"id": "entropy", "bits": 4, **TENSOR},
    "affine": {"id": "affine", "bits": 4},
    "affine_tensor": {"id": "affine", "bits": 8, **TENSOR},
    "affine_groups": {"id": "affine", "bits": 2, **GROUPS},
    "ternary": {"id": "ternary", "bits": 2},
    "binary": {"id": "binary", "bits": 1},
    "power_of_two": {"id": "power_of_two", "bits": 3},
    "float8_e4m3": {"id": "float8_e4m3", "bits": 8},
    "float8_e5m2": {"id": "float8_e5m2", "bits": 8, **GROUPS},
    "nf4": {"id": "nf4", "bits": 4},
    "nf4_groups": {"id": "nf4", "bits": 4, **GROUPS},
    "kmeans": {"id": "kmeans", "bits": 2},
    "kmeans_signs": {"id": "kmeans", "bits": 1},
    "kmeans_tensor": {"id": "kmeans", "bits": 5, **TENSOR},
    "kmeans_groups": {"id": "kmeans", "bits": 3, **GROUPS},
    "entropy_constrained": {"id": "entropy_constrained", "bits": 3, **TENSOR},
}
# One for each set of variables: codes and scale alone, with zero points, with
# a codebook for all or for each channel, and with a fixed codebook.
FORMS = ("absmax", "affine_groups", "kmeans", "kmeans_tensor", "nf4")
SOME = ("dense", "depthwise2d", "embedding")
LAYERS = (
    "dense",
    "einsum_heads",
    "conv2d_strides",
    "conv1d_transpose",
    "depthwise2d",
    "separable2d",
    "embedding",
    "reversible",
    "lstm_cell",
)
CHEAP = ("dense", "einsum_heads", "embedding", "reversible")


def converted(case, kind, **arguments):
    layer, x = built(case, **arguments)
    quantizer = quantizers.get(KINDS[kind])
    tensors = encode_kernels(layer, quantizer)
    convert_layer(layer, quantizer, tensors)
    return layer, tensors, x


def stock_of(case, tensors, **arguments):
    """The layer of Keras that holds the dequantized kernels."""
    stock, _ = built(case, **arguments)
    for name, variable in kernel_variables(stock).items():
        variable.assign(tensors[name].dequantize())
    return stock


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_are_those_the_tensors_stand_for(kind):
    for case in LAYERS if kind in FORMS else SOME:
        layer, tensors, x = converted(case, kind)
        for name, tensor in tensors.items():
            assert np.array_equal(
                numpy(getattr(layer, name)), tensor.dequantize()
            ), case
            again = layer.quantized_kernel(name)
            assert np.array_equal(again.codes, tensor.codes)
            assert np.array_equal(again.dequantize(), tensor.dequantize())
        if case in CHEAP:
            np.testing.assert_allclose(
                numpy(layer(x)),
                numpy(stock_of(case, tensors)(x)),
                rtol=1e-5,
                atol=1e-5,
            )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", FORMS)
def test_half_precision_is_as_near_as_the_stock_layer(kind, policy):
    for case in ("dense", "embedding"):
        layer, tensors, x = converted(case, kind, dtype=policy)
        exact = numpy(stock_of(case, tensors)(x))
        outputs = layer(x)
        assert outputs.dtype == layer.compute_dtype
        stock = numpy(stock_of(case, tensors, dtype=policy)(x))
        allowed = 3 * np.abs(stock - exact).max() + 1e-3
        assert np.abs(numpy(outputs).astype("float32") - exact).max() < allowed


@pytest.mark.parametrize("kind", FORMS)
def test_gradients_reach_inputs_and_biases(kind):
    for case in ("dense", "separable2d"):
        layer, tensors, x = converted(case, kind)
        assert [v.name for v in layer.trainable_variables] == ["bias"]
        found = gradients(layer, x)
        expected = gradients(stock_of(case, tensors), x)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def gradients(layer, x):
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(layer(inputs) ** 2)
    return tape.gradient(loss, [inputs, layer.bias.value])


@pytest.mark.parametrize("kind", FORMS)
def test_the_config_makes_the_same_variables(kind):
    for case in ("separable2d", "reversible"):
        layer, tensors, _ = converted(case, kind)
        again = type(layer).from_config(layer.get_config())
        again.build(CASES[case][2])
        assert signature(again) == signature(layer)
        again.set_weights(layer.get_weights())
        for name, tensor in tensors.items():
            assert np.array_equal(
                numpy(again.dequantized(name)), tensor.dequantize()
            )


def signature(layer):
    return [(v.name, tuple(v.shape), str(v.dtype)) for v in layer.variables]


@pytest.mark.parametrize("kind", FORMS)
def test_kernels_of_zeros_until_they_are_loaded(kind):
    layer, x = built("dense")
    convert_layer(layer, quantizers.get(KINDS[kind]))
    np.testing.assert_array_equal(
        numpy(layer(x)), np.broadcast_to(numpy(layer.bias), (4, 5))
    )


def test_variables_of_each_form():
    names = {
        "absmax": ["codes", "scale"],
        "affine": ["codes", "scale", "zero_point"],
        "kmeans": ["codes", "scale", "codebook"],
        "nf4": ["codes", "scale"],
    }
    for kind, parts in names.items():
        layer, _, _ = converted("dense_no_bias", kind)
        assert [v.name for v in layer.variables] == [
            f"kernel_{part}" for part in parts
        ]
        assert not layer.trainable_variables


def test_tensors_of_another_form_are_refused():
    for kind, other, message in [
        ("affine", "percentile", "with zero points.*Received: one without"),
        ("percentile", "affine", "without zero points.*Received: one with"),
        ("nf4", "percentile", r"codebook of shape \(1, 16\).*Received: None"),
        ("percentile", "nf4", r"of shape None.*Received: \(1, 16\)"),
    ]:
        layer, _ = built("dense")
        _, tensors, _ = converted("dense", other)
        with pytest.raises(SqueezeError, match=message):
            convert_layer(layer, quantizers.get(KINDS[kind]), tensors)
        assert type(layer) is L.Dense
    layer, tensors, _ = converted("dense", "nf4")
    tensors["kernel"].codebook[0, 3] = -0.6
    with pytest.raises(SqueezeError, match=r"'nf4'\. Received: another"):
        layer.assign_quantized(tensors["kernel"])


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 7])
def test_lookup_of_stored_codes(bits):
    half, width = 2 ** (bits - 1), storage_width(bits)
    codes = np.random.default_rng(bits).integers(-half, half, 37)
    codes = np.where(codes < 0, -1, 1) if bits == 1 else codes
    codebook = np.linspace(-2, 3, 2**bits).astype("float32")
    stored = codes.astype("int8")
    if width < 8:
        stored = pack_codes(stored, width)
    found = numpy(look_up(tf.constant(stored), codebook, bits, width))[:37]
    places = (codes + half) // (2 if bits == 1 else 1)
    assert np.array_equal(found, codebook[places])


def test_reversible_embedding_projects_back():
    for kind in ("affine", "nf4"):
        for tied in (True, False):
            config = {"tie_weights": tied, "logit_soft_cap": 2.0}
            layer = L.ReversibleEmbedding(11, 5, **config)
            layer.build()
            stock = L.ReversibleEmbedding(11, 5, **config)
            stock.build()
            quantizer = quantizers.get(KINDS[kind])
            tensors = encode_kernels(layer, quantizer)
            assert len(tensors) == 2 - tied
            convert_layer(layer, quantizer, tensors)
            assert type(layer) is Q.QuantizedReversibleEmbedding
            for name, variable in kernel_variables(stock).items():
                variable.assign(tensors[name].dequantize())
            x = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
            np.testing.assert_allclose(
                numpy(layer(x, reverse=True)),
                numpy(stock(x, reverse=True)),
                rtol=1e-5,
                atol=1e-5,
            )


def test_layers_of_several_kernels_name_them():
    layer, _ = built("separable2d")
    quantizer = quantizers.get("absmax")
    tensors = encode_kernels(layer, quantizer)
    for wrong in ({"kernel": tensors["depthwise_kernel"]}, 3):
        with pytest.raises(SqueezeError, match=r"'pointwise_kernel'.*Received"):
            convert_layer(layer, quantizer, wrong)
    assert type(layer) is L.SeparableConv2D
    convert_layer(layer, quantizer, tensors)
    with pytest.raises(SqueezeError, match="Received: kernel=None"):
        layer.quantized_kernel()
    with pytest.raises(SqueezeError, match="Received: kernel='kernel'"):
        layer.assign_kernel(np.ones((3, 3)), kernel="kernel")
    kernel = np.ones(layer.layouts["pointwise_kernel"].shape)
    tensor = layer.assign_kernel(kernel, kernel="pointwise_kernel")
    assert np.array_equal(numpy(layer.pointwise_kernel), tensor.dequantize())
    with pytest.raises(AttributeError, match="no attribute 'kernel'"):
        _ = layer.kernel
