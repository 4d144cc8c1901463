import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_squeeze as ks
from keras_squeeze import layers as Q
from keras_squeeze.errors import (
    NonFiniteError,
    SqueezeError,
    UnbuiltModelError,
)
from keras_squeeze.layers.conversion import (
    QUANTIZED_CLASSES,
    convert_layer,
    kernel_variables,
    quantize_layer,
)
from keras_squeeze.layers.dequantization import unpack
from keras_squeeze.quantizers import AbsMaxQuantizer, pack_codes

L = keras.layers
GRANULARITIES = {
    "per_tensor": {"granularity": "per_tensor"},
    "per_channel": {"granularity": "per_channel"},
    "per_group": {"granularity": "per_group", "group_size": 3},
}
IMAGE = (2, 9, 9, 4)
CASES = {
    "dense": (L.Dense, {"units": 5}, (4, 7)),
    "dense_no_bias": (
        L.Dense,
        {"units": 5, "activation": "relu", "use_bias": False},
        (2, 3, 7),
    ),
    "einsum_heads": (
        L.EinsumDense,
        {
            "equation": "abc,cde->abde",
            "output_shape": (None, 2, 3),
            "bias_axes": "de",
        },
        (2, 5, 4),
    ),
    "einsum_output": (
        L.EinsumDense,
        {
            "equation": "abcd,cde->abe",
            "output_shape": (None, 6),
            "bias_axes": "e",
        },
        (2, 5, 3, 4),
    ),
    "einsum_ellipsis": (
        L.EinsumDense,
        {"equation": "...x,xy->...y", "output_shape": 6, "activation": "tanh"},
        (2, 5, 4),
    ),
    "einsum_swapped": (
        L.EinsumDense,
        {"equation": "abc,dec->aebd", "output_shape": (3, None, 2)},
        (2, 5, 4),
    ),
    "einsum_batched": (
        L.EinsumDense,
        {"equation": "abc,bcd->abd", "output_shape": (5, 6)},
        (2, 5, 4),
    ),
    "conv1d_causal": (
        L.Conv1D,
        {
            "filters": 6,
            "kernel_size": 3,
            "padding": "causal",
            "dilation_rate": 2,
        },
        (2, 9, 4),
    ),
    "conv2d_strides": (
        L.Conv2D,
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"},
        IMAGE,
    ),
    "conv2d_groups": (
        L.Conv2D,
        {"filters": 6, "kernel_size": 3, "groups": 2},
        IMAGE,
    ),
    "conv2d_dilation": (
        L.Conv2D,
        {"filters": 6, "kernel_size": (3, 2), "dilation_rate": 2},
        IMAGE,
    ),
    "conv3d": (L.Conv3D, {"filters": 3, "kernel_size": 2}, (2, 4, 4, 4, 4)),
    "conv1d_transpose": (
        L.Conv1DTranspose,
        {"filters": 6, "kernel_size": 3, "strides": 2},
        (2, 5, 4),
    ),
    "conv2d_transpose": (
        L.Conv2DTranspose,
        {"filters": 6, "kernel_size": 3, "strides": 2},
        (2, 5, 5, 4),
    ),
    "conv3d_transpose": (
        L.Conv3DTranspose,
        {"filters": 2, "kernel_size": 2},
        (1, 3, 3, 3, 4),
    ),
    "depthwise1d": (
        L.DepthwiseConv1D,
        {"kernel_size": 3, "depth_multiplier": 2},
        (2, 9, 4),
    ),
    "depthwise2d": (
        L.DepthwiseConv2D,
        {"kernel_size": 3, "depth_multiplier": 2, "strides": 2},
        IMAGE,
    ),
    "separable1d": (
        L.SeparableConv1D,
        {"filters": 5, "kernel_size": 3, "dilation_rate": 2},
        (2, 9, 4),
    ),
    "separable2d": (
        L.SeparableConv2D,
        {"filters": 5, "kernel_size": 3, "depth_multiplier": 2},
        (2, 7, 7, 3),
    ),
    "embedding": (L.Embedding, {"input_dim": 11, "output_dim": 5}, (3, 4)),
    "reversible": (
        L.ReversibleEmbedding,
        {"input_dim": 11, "output_dim": 5, "tie_weights": False},
        (3, 4),
    ),
    "lstm_cell": (L.LSTMCell, {"units": 3}, (2, 4)),
}
# Cells take states too: their calls are tested with recurrent layers.
CALLED = [case for case in CASES if "cell" not in case]


def inputs_for(stock, shape):
    generator = np.random.default_rng(1)
    if issubclass(stock, L.Embedding):
        return generator.integers(0, 11, shape)
    return generator.normal(size=shape).astype("float32")


def built(case, seed=0, **arguments):
    stock, config, shape = CASES[case]
    keras.utils.set_random_seed(seed)
    layer = stock(**config, **arguments)
    layer.build(shape)
    if getattr(layer, "bias", None) is not None:
        layer.bias.assign(
            np.linspace(-1, 1, layer.bias.shape.num_elements()).reshape(
                layer.bias.shape
            )
        )
    return layer, inputs_for(stock, shape)


def kernels_of(layer):
    """The kernels of a layer, quantized or not, by name."""
    names = getattr(layer, "layouts", None) or kernel_variables(layer)
    return {name: getattr(layer, name) for name in names}


def numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def signature(layer):
    return [
        (v.name, tuple(v.shape), str(v.dtype), v.trainable)
        for v in layer.variables
    ]


@pytest.mark.parametrize(
    ("bits", "granularity"),
    [
        (8, "per_channel"),
        (3, "per_group"),
    ],
)
@pytest.mark.parametrize("case", CALLED)
def test_equals_the_float_layer_with_its_kernel(case, bits, granularity):
    plain, x = built(case)
    layer, _ = built(case)
    quantize_layer(layer, bits=bits, **GRANULARITIES[granularity])
    assert type(layer) is QUANTIZED_CLASSES[type(plain)]
    for name, variable in kernel_variables(plain).items():
        tensor = layer.quantized_kernel(name)
        assert np.array_equal(numpy(getattr(layer, name)), tensor.dequantize())
        variable.assign(tensor.dequantize())
    np.testing.assert_allclose(
        numpy(layer(x)), numpy(plain(x)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("case", CALLED)
def test_config_makes_the_same_layer(case):
    layer, x = built(case)
    bits = 8 if "2d" in case else 2
    quantize_layer(layer, "mse", bits, "per_group", group_size=2)
    config = layer.get_config()
    assert (config["kernel_quantizer"], config["bits"]) == ("mse", bits)
    again = type(layer).from_config(config)
    again.build(CASES[case][2])
    assert signature(again) == signature(layer)
    again.set_weights(layer.get_weights())
    assert np.array_equal(numpy(again(x)), numpy(layer(x)))
    assert again.get_config() == config


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
def test_codes_take_their_storage_width(bits):
    layer = L.Dense(6)
    layer.build((None, 20))
    quantize_layer(layer, bits=bits)
    width = {1: 1, 2: 2, 3: 4, 4: 4}.get(bits, 8)
    assert layer.kernel_codes.value.numpy().nbytes == 120 * width // 8
    assert layer.kernel_scale.value.numpy().nbytes == 6 * 4
    assert len(layer.packings) == (width < 8)
    for packing in layer.packings:
        assert packing.variable is layer.kernel_codes
        assert (packing.width, packing.count) == (width, 120)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 7, 16])
def test_graph_unpacks_what_numpy_packs(width, count):
    generator = np.random.default_rng(count)
    half = 2 ** (width - 1)
    codes = generator.integers(-half, half, count).astype("int8")
    codes = np.where(codes < 0, -1, 1) if width == 1 else codes
    unpacked = unpack(tf.constant(pack_codes(codes, width)), width, count)
    assert numpy(unpacked).tolist() == codes.tolist()


def test_new_layer_is_zero_until_a_kernel_is_assigned():
    layer = Q.QuantizedDense(3, bits=4)
    x = np.ones((2, 5), "float32")
    assert not numpy(layer(x)).any()
    kernel = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    tensor = layer.assign_kernel(kernel)
    np.testing.assert_allclose(
        numpy(layer(x)), x @ tensor.dequantize(), rtol=1e-5
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    "case",
    ["dense", "einsum_heads", "conv2d_strides", "depthwise2d", "embedding"],
)
def test_computes_in_the_compute_dtype(case, policy):
    layer, x = built(case, dtype=policy)
    exact, _ = built(case)
    for name, kernel in kernels_of(layer).items():
        getattr(exact, name).assign(numpy(kernel).astype("float32"))
    quantize_layer(layer, bits=4)
    quantize_layer(exact, bits=4)
    for kernel in kernels_of(layer).values():
        assert kernel.dtype == layer.compute_dtype
    outputs = layer(x)
    assert outputs.dtype == layer.compute_dtype
    np.testing.assert_allclose(
        numpy(outputs).astype("float32"), numpy(exact(x)), rtol=0.1, atol=0.1
    )
    assert layer.get_weights()[-1].dtype == np.float32


def test_float16_keeps_kernels_whose_scale_it_cannot_hold():
    layer = Q.QuantizedDense(1, dtype="mixed_float16", use_bias=False)
    layer.build((None, 2))
    layer.assign_kernel(np.array([[1e-5], [-5e-6]]))
    expected = numpy(layer.kernel).astype("float64")
    assert expected[0, 0] == pytest.approx(1e-5, rel=0.02)


def test_jit_compiled_model_predicts_alike():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            L.Conv2D(4, 3),
            L.Flatten(),
            L.Dense(5, activation="relu"),
            L.Dense(2),
        ]
    )
    small, _ = ks.quantize(model, bits=4)
    x = inputs_for(L.Conv2D, (3, 6, 6, 3))
    expected = small.predict(x, verbose=0)
    small.compile(jit_compile=True)
    np.testing.assert_allclose(small.predict(x, verbose=0), expected, atol=1e-5)


def test_embedding_reads_rows_only_and_wraps_negative_ones():
    for bits in (1, 2, 4, 8):
        layer = Q.QuantizedEmbedding(7, 3, bits=bits)
        layer.build()
        table = np.random.default_rng(0).normal(size=(7, 3))
        expected = layer.assign_kernel(table).dequantize()
        rows = np.array([[0, 6], [3, -1]])
        assert np.array_equal(numpy(layer(rows)), expected[rows])
        graph = tf.function(layer).get_concrete_function(
            tf.TensorSpec((2, 2), tf.int32)
        )
        sizes = [
            tensor.shape.num_elements()
            for op in graph.graph.get_operations()
            for tensor in op.outputs
            if tensor.dtype == tf.float32 and tensor.shape.rank
        ]
        assert max(sizes) < 7 * 3


@pytest.mark.parametrize("bits", [4, 8])
def test_embedding_beyond_the_table_is_an_error(bits):
    layer = Q.QuantizedEmbedding(6, 4, bits=bits)
    with pytest.raises(tf.errors.InvalidArgumentError):
        layer(np.array([6]))


def test_embedding_takes_weights_and_masks_zero():
    table = np.full((4, 3), 0.5 * 127, "float32")
    layer = Q.QuantizedEmbedding(4, 3, weights=[table], mask_zero=True)
    assert np.array_equal(numpy(layer(np.array([1]))), table[[1]])
    assert numpy(layer.compute_mask(np.array([0, 2]))).tolist() == [False, True]


def test_dequantization_waits_for_the_input():
    layer, _ = built("conv2d_strides")
    quantize_layer(layer, bits=4)
    spec = tf.TensorSpec(IMAGE, tf.float32)
    graph = tf.function(layer).get_concrete_function(spec).graph
    reads = [o for o in graph.get_operations() if o.type == "ReadVariableOp"]
    assert reads and all(o.control_inputs for o in reads)


def test_fit_trains_biases_and_leaves_codes():
    model = keras.Sequential([keras.Input((6,)), L.Dense(8), L.Dense(2)])
    small, _ = ks.quantize(model, bits=4, filters="dense")
    small.compile("sgd", keras.losses.MeanSquaredError())
    before = [v.numpy() for v in small.variables]
    x = inputs_for(L.Dense, (16, 6))
    small.fit(x, np.ones((16, 2)), epochs=2, verbose=0)
    assert [v.name for v in small.trainable_variables] == ["bias", "bias"]
    for variable, old in zip(small.variables, before, strict=True):
        assert np.array_equal(variable.numpy(), old) != variable.trainable


@pytest.mark.parametrize("case", CALLED)
def test_plain_keras_saves_and_loads(case, tmp_path):
    stock, config, shape = CASES[case]
    dtype = "int32" if issubclass(stock, L.Embedding) else None
    small = keras.Sequential(
        [keras.Input(shape[1:], dtype=dtype), stock(**config)]
    )
    quantize_layer(small.layers[0], bits=4)
    x = inputs_for(stock, shape)
    expected = numpy(small(x))
    # What the formats differ in is the same for all layers.
    every = case in ("dense", "separable2d", "embedding")
    for suffix in (".keras", ".h5", ".weights.h5")[: 3 if every else 1]:
        again = saved_and_loaded(small, str(tmp_path / f"model{suffix}"))
        assert type(again.layers[0]) is type(small.layers[0])
        assert np.array_equal(numpy(again(x)), expected)


def saved_and_loaded(model, path):
    if not path.endswith(".weights.h5"):
        model.save(path)
        return keras.models.load_model(path, compile=False)
    model.save_weights(path)
    again = keras.models.clone_model(model)
    again.load_weights(path)
    return again


def test_saved_model_needs_no_keras_squeeze_layer(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.Dense(8), L.Dense(2)])
    small, _ = ks.quantize(model, bits=4)
    small.export(str(tmp_path / "saved"), verbose=0)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    x = inputs_for(L.Dense, (3, 6))
    np.testing.assert_allclose(
        served.serve(x).numpy(), small.predict(x, verbose=0), rtol=1e-6
    )


def attention_model(layer):
    inputs = keras.Input((6, 8))
    return keras.Model(inputs, layer(inputs, inputs))


@pytest.mark.parametrize(
    "layer",
    [
        L.MultiHeadAttention(2, 4, name="attention"),
        L.GroupQueryAttention(4, 2, 2, name="attention"),
    ],
    ids=["multi_head", "grouped_query"],
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_attention_survives_plain_keras(layer, suffix, tmp_path):
    model = attention_model(type(layer).from_config(layer.get_config()))
    small, report = ks.quantize(model, bits=4, filters="query|output")
    assert [row["layer"] for row in report.rows] == [
        "attention/query",
        "attention/attention_output",
    ]
    x = inputs_for(L.Dense, (2, 6, 8))
    path = str(tmp_path / f"model{suffix}")
    small.save(path)
    again = keras.models.load_model(path, compile=False)
    attention = again.get_layer("attention")
    assert isinstance(attention, Q.quantized_attention.QuantizedProjections)
    assert type(attention._query_dense) is Q.QuantizedEinsumDense
    assert type(attention._key_dense) is L.EinsumDense
    assert np.array_equal(numpy(again(x)), numpy(small(x)))


def test_attention_layer_of_its_own_quantizes_all_projections():
    layer = Q.QuantizedMultiHeadAttention(2, 4, bits=2, use_gate=True)
    layer.build((None, 6, 8), (None, 6, 8))
    config = layer.get_config()
    assert sorted(config["projections"]) == [
        *("attention_output", "gate", "key", "query", "value"),
    ]
    assert {p["bits"] for p in config["projections"].values()} == {2}
    again = Q.QuantizedMultiHeadAttention.from_config(config)
    assert again.get_config() == config
    again.build((None, 6, 8), (None, 6, 8))
    assert signature(again) == signature(layer)


def test_attention_with_a_projection_that_does_not_exist():
    layer = Q.QuantizedMultiHeadAttention(
        2,
        4,
        projections={
            "queries": {
                "kernel_quantizer": "absmax",
                "bits": 8,
                "granularity": "per_channel",
                "group_size": None,
            }
        },
    )
    with pytest.raises(SqueezeError, match=r"'query'.*Received: \['queries'\]"):
        layer.build((None, 6, 8), (None, 6, 8))


def test_conversion_keeps_the_object_and_the_names():
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, name="one")])
    layer = model.layers[0]
    path = layer.kernel.path
    quantize_layer(layer, bits=4)
    assert model.layers[0] is layer
    assert layer.kernel_codes.path == path.replace("kernel", "kernel_codes")
    assert [v.name for v in model.variables] == [
        *("bias", "kernel_codes", "kernel_scale"),
    ]
    assert not hasattr(layer, "_kernel")


def test_conversion_without_a_tensor_gives_zeros():
    layer, x = built("dense")
    convert_layer(layer, AbsMaxQuantizer(bits=4))
    assert np.array_equal(
        numpy(layer(x)), np.broadcast_to(numpy(layer.bias), (4, 5))
    )


def test_failed_conversion_changes_nothing():
    layer, _ = built("dense")
    kernel = numpy(layer.kernel)
    kernel[0, 0] = np.nan
    layer.kernel.assign(kernel)
    state = (type(layer), signature(layer), layer._tracker.locked)
    with pytest.raises(NonFiniteError, match=r"a/b.*Received: 1 NaN"):
        quantize_layer(layer, name="a/b")
    wrong = AbsMaxQuantizer(bits=4).encode(np.ones((7, 4)), axis=1)
    with pytest.raises(SqueezeError, match=r"\(7, 5\).*Received.*\(7, 4\)"):
        convert_layer(layer, AbsMaxQuantizer(bits=4), wrong)
    other = AbsMaxQuantizer(bits=8).encode(np.ones((7, 5)), axis=1)
    with pytest.raises(SqueezeError, match=r"\(4, .*Received: \(8, "):
        convert_layer(layer, AbsMaxQuantizer(bits=4), other)
    assert (type(layer), signature(layer), layer._tracker.locked) == state


def test_layers_that_cannot_be_converted_say_why():
    class Mine(L.Dense):
        pass

    for layer, reason in [
        (Mine(2), "a subclass of a Keras layer: Mine"),
        (L.BatchNormalization(), "no quantized layer for BatchNormalization"),
        (Q.QuantizedDense(2), "already quantized"),
        (L.Dense(2, dtype="int8_from_float32"), r"by Keras \(int8\)"),
    ]:
        layer.build((None, 4))
        with pytest.raises(SqueezeError, match=f"Received: .*{reason}"):
            quantize_layer(layer)
    adapted = L.Dense(3)
    adapted.build((None, 4))
    adapted.enable_lora(2)
    with pytest.raises(SqueezeError, match="LoRA"):
        quantize_layer(adapted)
    with pytest.raises(UnbuiltModelError, match="Received: unbuilt"):
        quantize_layer(L.Dense(2))


def test_what_a_quantized_layer_refuses():
    layer = Q.QuantizedConv2D(2, 3, name="first")
    with pytest.raises(AttributeError, match="first"):
        _ = layer.kernel
    layer.build((None, 5, 5, 1))
    with pytest.raises(SqueezeError, match=r"\(3, 3, 1, 2\).*Received: shape"):
        layer.assign_kernel(np.ones((3, 3, 2, 1)))
    for call in (
        lambda: layer.enable_lora(2),
        lambda: layer.quantize("int8"),
        lambda: setattr(layer, "kernel", 1.0),
    ):
        with pytest.raises(SqueezeError, match="'first'"):
            call()
    with pytest.raises(SqueezeError, match="LoRA"):
        Q.QuantizedDense(2, lora_rank=2).build((None, 3))
    with pytest.raises(SqueezeError, match="Received: dtype='int8_from"):
        Q.QuantizedDense(2, dtype="int8_from_float32")


@pytest.mark.parametrize("bits", [0, 9, 16])
def test_bits_of_a_layer(bits):
    with pytest.raises(SqueezeError, match=rf"Received: bits={bits}"):
        Q.QuantizedDense(2, bits=bits)


def test_config_of_a_quantizer_with_arguments_of_its_own():
    config = AbsMaxQuantizer(bits=3, granularity="per_tensor").get_config()
    layer = Q.QuantizedDense(2, kernel_quantizer=config, bits=8)
    assert layer.kernel_quantizer.bits == 3
    again = Q.QuantizedDense.from_config(layer.get_config())
    assert again.kernel_quantizer == layer.kernel_quantizer
