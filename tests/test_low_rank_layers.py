import json

import keras
import numpy as np
import pytest

from keras_squeeze import layers as Q
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.low_rank_conversion import (
    LOW_RANK_CLASSES,
    convert_to_low_rank,
)
from tests.low_rank_cases import (
    CASES,
    HEADS,
    PAIRS,
    inputs_for,
    kernel_of,
    numpy,
)

L = keras.layers
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def fresh(case, method, **arguments):
    kind, config, _ = CASES[case]
    rank = [2, 3] if method == "tucker2" else 2
    keras.utils.set_random_seed(0)
    target = LOW_RANK_CLASSES[kind]
    return target(**config, rank=rank, method=method, **arguments)


FRESH = [
    (case, method)
    for case, method in PAIRS
    if method in ("svd", "channel_svd")
    or case in ("conv1d", "conv2d", "conv3d")
]


def signature(layer):
    return [(v.path, tuple(v.shape), str(v.dtype)) for v in layer.variables]


@pytest.mark.parametrize(("case", "method"), FRESH)
def test_new_layers_are_the_layer_of_their_product(case, method):
    layer = fresh(case, method, name="outer")
    x = inputs_for(case)
    outputs = layer(x)
    assert signature(layer)[0][0].startswith("outer/reduce/")
    assert layer.weights[-1].path.startswith("outer/expand/")
    kind, config, shape = CASES[case]
    plain = kind(**config)
    plain.build(shape)
    kernel_of(plain).assign(kernel_of(layer))
    np.testing.assert_allclose(numpy(outputs), numpy(plain(x)), **CLOSE)
    assert np.std(numpy(kernel_of(layer))) > 0.01
    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    again.build(shape)
    assert signature(again) == signature(layer)
    again.set_weights(layer.get_weights())
    assert np.array_equal(numpy(again(x)), numpy(outputs))
    assert again.get_config() == config


def test_masks_pass_through_dense_and_start_at_embeddings():
    inputs = keras.Input((4,), dtype="int32")
    outputs = Q.LowRankEmbedding(9, 6, rank=2, mask_zero=True)(inputs)
    outputs = Q.LowRankDense(5, rank=2)(outputs)
    model = keras.Model(inputs, L.GlobalAveragePooling1D()(outputs))
    x = np.array([[1, 2, 0, 0], [1, 2, 3, 0]])
    rows = numpy(model.layers[2](model.layers[1](x[:1, :2])))
    np.testing.assert_allclose(numpy(model(x))[:1], rows.mean(axis=1), **CLOSE)


def test_embeddings_look_up_what_the_table_has():
    layer = Q.LowRankEmbedding(9, 6, rank=2)
    rows = np.array([[0, 8], [3, 3]])
    found = numpy(layer(rows))
    np.testing.assert_allclose(found, numpy(layer.embeddings)[rows], **CLOSE)


@pytest.mark.parametrize("method", ["channel_svd", "spatial_svd", "tucker2"])
def test_channels_first_has_the_shapes_of_the_whole_layer(method):
    arguments = {
        "filters": 6,
        "kernel_size": (3, 2),
        "strides": (2, 1),
        "padding": "same",
        "data_format": "channels_first",
    }
    layer = Q.LowRankConv2D(**arguments, rank=2, method=method)
    layer.build((None, 5, 9, 8))
    last = Q.LowRankConv2D(
        **arguments | {"data_format": "channels_last"}, rank=2, method=method
    )
    last.build((None, 9, 8, 5))
    shapes = [tuple(v.shape) for v in layer.weights]
    assert shapes == [tuple(v.shape) for v in last.weights]
    shape = (2, 5, 9, 8)
    assert layer.compute_output_shape(shape) == (2, 6, 5, 8)
    for factor in layer.factors:
        assert factor.data_format == "channels_first"
        shape = factor.compute_output_shape(shape)
    assert shape == (2, 6, 5, 8)


def test_input_is_checked_as_by_the_whole_layer():
    layer = Q.LowRankDense(4, rank=2)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="axis -1"):
        layer(np.ones((2, 4), "float32"))
    with pytest.raises(ValueError, match="negative"):
        Q.LowRankConv2D(4, 5, rank=2).build((None, 3, 3, 2))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("Dense", {"rank": None}, "rank=None"),
        ("Dense", {"rank": 0}, "rank=0"),
        ("Dense", {"rank": True}, "rank=True"),
        ("Dense", {"rank": 2.0}, "rank=2.0"),
        ("Dense", {"rank": [1, 2]}, r"rank=\[1, 2\]"),
        ("Dense", {"rank": 1, "method": "tucker2"}, "method='tucker2'"),
        ("Dense", {"rank": 1, "kernel_constraint": "non_neg"}, "constraint"),
        ("Dense", {"rank": 1, "lora_rank": 1}, "LoRA"),
        ("Dense", {"rank": 1, "dtype": "int8_from_float32"}, "quantized"),
        ("Dense", {"rank": 1, "activation": L.PReLU()}, "is a layer"),
        ("Conv2D", {"rank": 1, "groups": 2}, "groups=2"),
        ("Conv2D", {"rank": [1], "method": "tucker2"}, r"a list of 2"),
        ("Conv2D", {"rank": 1, "method": "cp", "strides": (1, 2)}, "strides"),
    ],
)
def test_arguments_that_cannot_be_had_are_refused(kind, arguments, message):
    needed = {"Dense": {"units": 4}, "Conv2D": {"filters": 4, "kernel_size": 3}}
    with pytest.raises(SqueezeError, match=message):
        getattr(Q, f"LowRank{kind}")(**needed[kind], **arguments)


def test_equations_that_cannot_be_had_are_refused():
    with pytest.raises(SqueezeError, match="batch axes"):
        Q.LowRankEinsumDense("abc,bcd->abd", (5, 6), rank=2)
    layer = Q.LowRankEinsumDense("...ab,bc->...ac", 6, rank=2)
    with pytest.raises(SqueezeError, match="to stand for an axis"):
        layer.build((4, 5))
    with pytest.raises(SqueezeError, match="`weights`"):
        Q.LowRankEmbedding(4, 2, rank=1, weights=np.zeros((4, 2)))


def test_parts_belong_to_the_factors():
    layer = Q.LowRankDense(4, rank=2, activation="relu")
    assert layer.bias is None
    with pytest.raises(AttributeError, match="build the layer"):
        _ = layer.kernel
    layer.build((None, 3))
    assert layer.bias is layer.factors[-1].bias
    assert layer.activation is keras.activations.relu
    layer.activation = keras.activations.linear
    layer.bias.assign([-9] * 4)
    assert numpy(layer(np.zeros((1, 3), "float32"))).tolist() == [[-9] * 4]
    assert layer.get_config()["activation"] == "linear"
    with pytest.raises(SqueezeError, match="an assignment to `bias`"):
        layer.bias = np.zeros(4)
    with pytest.raises(SqueezeError, match="one of its `factors`"):
        layer.enable_lora(1)


def test_lora_and_keras_quantization_act_on_the_factors():
    layer = Q.LowRankDense(8, rank=4)
    model = keras.Sequential([keras.Input((8,)), layer])
    x = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    before = numpy(model(x))
    layer.factors[0].enable_lora(2)
    np.testing.assert_allclose(numpy(model(x)), before, **CLOSE)
    other = keras.models.clone_model(
        keras.Sequential([keras.Input((8,)), Q.LowRankDense(8, rank=4)])
    )
    before = numpy(other(x))
    other.layers[0].quantize("int8")
    kinds = [f.quantization_mode for f in other.layers[0].factors]
    assert kinds == ["int8", "int8"]
    assert np.abs(numpy(other(x)) - before).max() < 0.1


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_layers_quantized_by_keras_come_back(suffix, tmp_path):
    model = keras.Sequential([keras.Input((8,)), Q.LowRankDense(8, rank=4)])
    model.quantize("int8")
    x = np.ones((2, 8), "float32")
    model.save(tmp_path / f"m.{suffix}")
    again = keras.models.load_model(tmp_path / f"m.{suffix}")
    assert np.array_equal(numpy(again(x)), numpy(model(x)))


def test_initializers_are_copied_for_kernels_of_other_axes():
    initializer = keras.initializers.VarianceScaling(
        seed=3, input_axes=(0,), output_axes=(1, 2)
    )
    layer = Q.LowRankEinsumDense(
        **HEADS, kernel_initializer=initializer, rank=2
    )
    layer.build((2, 4, 5))
    assert all(f.kernel_initializer.seed == 3 for f in layer.factors)
    plain = Q.LowRankDense(4, rank=4)
    plain.build((None, 4))
    first, last = plain.factors
    assert not np.array_equal(numpy(first.kernel), numpy(last.kernel))


def test_frozen_from_the_start():
    layer = Q.LowRankDense(4, rank=2, trainable=False)
    model = keras.Sequential([keras.Input((3,)), layer, L.Dense(2)])
    assert len(model.trainable_variables) == 2
    assert len(model.non_trainable_variables) == 3


def test_weights_of_a_layer_that_is_whole_are_refused():
    layer = Q.LowRankDense(4, rank=2, name="d")
    layer.build((None, 3))
    store = {}
    layer.save_own_variables(store)
    assert store == {}
    layer.load_own_variables(store)
    whole = L.Dense(4)
    whole.build((None, 3))
    whole.save_own_variables(store)
    with pytest.raises(SqueezeError, match="Received: 2 variables"):
        layer.load_own_variables(store)


def test_policy_maps_reach_the_factors_of_a_live_layer():
    policies = keras.dtype_policies.DTypePolicyMap(
        "float32", {"d": keras.dtype_policies.DTypePolicy("mixed_bfloat16")}
    )
    layer = L.Dense(4, name="d", dtype=policies)
    layer.build((None, 3))
    convert_to_low_rank(layer, "svd", [np.ones((3, 1)), np.ones((1, 4))])
    assert layer.factors[0].compute_dtype == "bfloat16"
    assert layer(np.ones((2, 3), "float32")).dtype == "bfloat16"
    with pytest.raises(SqueezeError, match="DTypePolicyMap"):
        Q.LowRankDense(4, rank=2, dtype=policies)


def test_training_lowers_the_loss():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((9, 8, 5)),
            Q.LowRankConv2D(8, 3, activation="relu", rank=3, method="cp"),
            L.Flatten(),
            Q.LowRankDense(1, rank=1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
    x = np.random.default_rng(0).normal(size=(16, 9, 8, 5))
    y = x.mean(axis=(1, 2, 3)) * 10
    losses = model.fit(x, y, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
