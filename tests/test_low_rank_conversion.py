import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_squeeze as ks
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.low_rank_conversion import (
    LOW_RANK_CLASSES,
    canonical_factors,
    canonical_kernel,
    change_ranks,
    convert_to_low_rank,
    factor_variable,
    factors_to_canonical,
    from_canonical,
    kernel_info_arguments,
    kernel_shape,
    reason_not_factorizable,
    reason_ranks_fixed,
    to_canonical,
)
from keras_squeeze.low_rank import decompositions
from tests.low_rank_cases import (
    CASES,
    PAIRS,
    built,
    converted,
    inputs_for,
    kernel_of,
    low_rank,
    numpy,
    product,
    random_factors,
)

L = keras.layers
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.mark.parametrize(("case", "method"), PAIRS)
def test_equals_the_layer_of_the_product(case, method):
    plain, factors = low_rank(case, method)
    layer, _ = low_rank(case, method)
    whole, bias = kernel_of(layer), getattr(layer, "bias", None)
    names = [v.path for v in layer.weights]
    conversion = convert_to_low_rank(layer, method, factors)
    assert type(layer) is LOW_RANK_CLASSES[type(plain)]
    assert conversion.layer is layer
    assert [id(v) for v in conversion.removed] == [id(whole)]
    assert getattr(layer, "bias", None) is bias
    expected = conversion.added + ([] if bias is None else [bias])
    assert [id(v) for v in layer.weights] == [id(v) for v in expected]
    assert layer._trainable_variables == layer._non_trainable_variables == []
    assert whole.path == names[0]
    prefix = names[0].rpartition("/")[0]
    middle = ["core"] * (len(factors) - 2)
    assert [v.path.rpartition("/")[0] for v in conversion.added] == [
        f"{prefix}/{name}" for name in ("reduce", *middle, "expand")
    ]
    np.testing.assert_allclose(numpy(kernel_of(layer)), numpy(whole), **CLOSE)
    check_canonical(plain, layer, factors)
    x = inputs_for(case)
    outputs, wanted = layer(x), plain(x)
    assert outputs.shape == wanted.shape
    shape = plain.compute_output_shape(x.shape)
    assert layer.compute_output_shape(x.shape) == shape
    np.testing.assert_allclose(numpy(outputs), numpy(wanted), **CLOSE)


def check_canonical(plain, layer, factors):
    canonical, shape = canonical_kernel(plain), kernel_shape(plain)
    np.testing.assert_allclose(
        canonical, product(factors, layer.method), **CLOSE
    )
    info = kernel_info_arguments(plain)
    assert info["shape"] == canonical.shape
    assert kernel_info_arguments(layer) == info
    assert kernel_shape(layer) == shape == tuple(kernel_of(layer).shape)
    np.testing.assert_allclose(canonical_kernel(layer), canonical, **CLOSE)
    assert all(map(np.array_equal, canonical_factors(layer), factors))
    shaped = from_canonical(layer, layer.method, factors)
    for array, factor in zip(shaped, layer.factors, strict=True):
        assert np.array_equal(array, numpy(factor_variable(factor)))
    again = factors_to_canonical(layer, shaped)
    assert all(map(np.array_equal, again, factors))
    moment = np.zeros(shape, "float64")
    assert to_canonical(layer, moment).shape == canonical.shape


FULL = [
    pair for pair in PAIRS if pair[1] != "cp" and pair[0] != "conv2d_pointwise"
]


@pytest.mark.parametrize(("case", "method"), FULL)
def test_decomposition_at_full_rank_changes_no_output(case, method):
    layer = built(case)
    x, shape = inputs_for(case), kernel_info_arguments(layer)["shape"]
    before = numpy(layer(x))
    found = decompositions.get(method)
    ranks = found.max_ranks(shape)
    factors = found.decompose(canonical_kernel(layer), ranks)
    convert_to_low_rank(layer, method, factors)
    assert layer.ranks == ranks
    np.testing.assert_allclose(numpy(layer(x)), before, **CLOSE)


def test_kernel_info_says_what_the_layer_is():
    assert kernel_info_arguments(built("embedding")) == {
        "kind": "embedding",
        "shape": (11, 6),
        "strides": None,
        "dilations": None,
    }
    assert kernel_info_arguments(built("heads_back"))["shape"] == (6, 6)
    assert kernel_info_arguments(built("heads"))["kind"] == "matrix"
    assert kernel_info_arguments(built("conv2d_uneven")) == {
        "kind": "conv",
        "shape": (3, 2, 5, 6),
        "strides": (1, 2),
        "dilations": (1, 1),
    }


@pytest.mark.parametrize(
    ("case", "method"),
    [
        ("dense", "svd"),
        ("heads", "svd"),
        ("embedding", "svd"),
        ("conv2d", "tucker2"),
        ("conv2d", "cp"),
        ("conv1d_causal", "channel_svd"),
    ],
)
def test_ranks_change_in_place(case, method):
    layer = converted(case, method, rank=3)
    bias = getattr(layer, "bias", None)
    old = [factor_variable(factor) for factor in layer.factors]
    plain, smaller = low_rank(case, method, rank=1)
    conversion = change_ranks(layer, smaller)
    assert layer.ranks == ((1, 2) if method == "tucker2" else (1,))
    assert [id(v) for v in conversion.removed] == [id(v) for v in old]
    expected = conversion.added + ([] if bias is None else [bias])
    assert [id(v) for v in layer.weights] == [id(v) for v in expected]
    assert len(layer._flatten_layers(include_self=False)) == len(old)
    assert [v.path for v in conversion.added] == [v.path for v in old]
    x = inputs_for(case)
    np.testing.assert_allclose(numpy(layer(x)), numpy(plain(x)), **CLOSE)
    again = type(layer).from_config(layer.get_config())
    again.build(CASES[case][2])
    again.set_weights(layer.get_weights())
    assert np.array_equal(numpy(again(x)), numpy(layer(x)))


@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"]
)
@pytest.mark.parametrize(
    ("case", "method"),
    [
        ("dense", "svd"),
        ("heads", "svd"),
        ("embedding", "svd"),
        ("conv2d", "tucker2"),
    ],
)
def test_dtype_policy_goes_to_the_factors(case, method, policy):
    exact = converted(case, method)
    layer = converted(case, method, dtype=policy)
    dtype = built(case, dtype=policy).weights[0].dtype
    assert {v.dtype for v in layer.weights} == {dtype}
    outputs = layer(inputs_for(case))
    assert outputs.dtype == layer.compute_dtype
    np.testing.assert_allclose(
        numpy(outputs).astype("float32"),
        numpy(exact(inputs_for(case))),
        rtol=0.1,
        atol=0.1,
    )
    smaller = random_factors(layer, method, 1)
    change_ranks(layer, smaller)
    assert {v.dtype for v in layer.weights} == {dtype}


def test_casting_of_inputs_stays_as_it_was():
    layer = converted("dense", "svd", autocast=False)
    assert not any(factor.autocast for factor in layer.factors)


def test_frozen_layers_stay_frozen_and_thaw():
    layer, factors = low_rank("dense", "svd", 3)
    layer.trainable = False
    convert_to_low_rank(layer, "svd", factors)
    change_ranks(layer, random_factors(layer, "svd", 2))
    assert layer.trainable_variables == []
    assert not any(v.trainable for v in layer.weights)
    layer.trainable = True
    assert len(layer.trainable_variables) == 3


def test_variables_frozen_one_by_one_stay_frozen():
    layer, factors = low_rank("conv2d", "channel_svd", 3)
    layer.bias.trainable = False
    convert_to_low_rank(layer, "channel_svd", factors)
    change_ranks(layer, random_factors(layer, "channel_svd", 2))
    assert [v.trainable for v in layer.weights] == [True, True, False]
    layer.trainable = False
    layer.trainable = True
    assert [v.trainable for v in layer.weights] == [True, True, True]
    layer, factors = low_rank("dense", "svd")
    layer.kernel.trainable = False
    convert_to_low_rank(layer, "svd", factors)
    assert [v.trainable for v in layer.weights] == [False, False, True]


def test_regularizers_stand_on_every_factor_and_on_the_output_once():
    arguments = {
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        "activity_regularizer": "l1",
    }
    layer = converted("conv2d", "tucker2", **arguments)
    assert len(layer.losses) == 3 + 1
    layer(inputs_for("conv2d"))
    assert len(layer.losses) == 3 + 1 + 1
    core = layer.factors[1].kernel.value
    expected = 0.01 * float(keras.ops.sum(core**2))
    assert any(abs(float(loss) - expected) < 1e-5 for loss in layer.losses)
    depthwise = converted("conv2d", "cp", **arguments)
    assert len(depthwise.losses) == 3 + 1


class Twice(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = L.Dense(6, activation="relu")
        self.blocks = [L.Dense(6), L.Dense(5)]

    def call(self, inputs):
        outputs = self.hidden(inputs)
        for block in self.blocks:
            outputs = block(outputs)
        return outputs


def sequential():
    return keras.Sequential(
        [keras.Input((5,)), L.Dense(6, "relu"), L.Dense(6), L.Dense(5)]
    )


def nested():
    inputs = keras.Input((5,))
    return keras.Model(inputs, L.Dense(2)(sequential()(inputs)))


def shared():
    inputs = keras.Input((6,))
    layer = L.Dense(6, "tanh")
    return keras.Model(inputs, L.Dense(2)(layer(layer(inputs))))


def subclassed():
    model = Twice()
    model.build((None, 5))
    return model


def attention():
    inputs = keras.Input((4, 6))
    layer = L.MultiHeadAttention(2, 3)
    return keras.Model(inputs, L.Dense(2)(layer(inputs, inputs)))


MODELS = {
    f.__name__: f for f in (sequential, nested, shared, subclassed, attention)
}


def factorize_all(model):
    conversions = []
    for layer in model._flatten_layers():
        if reason_not_factorizable(layer) is None:
            rows, columns = kernel_info_arguments(layer)["shape"]
            method = type(layer).__name__
            assert method in ("Dense", "EinsumDense")
            found = decompositions.get("svd")
            rank = min(rows, columns)
            factors = found.decompose(canonical_kernel(layer), (rank,))
            conversions.append(convert_to_low_rank(layer, "svd", factors))
    return conversions


@pytest.mark.parametrize("name", MODELS)
def test_live_models_predict_and_train_on(name):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    generator = np.random.default_rng(0)
    shape = (
        (4, 6) if name == "attention" else ((6,) if name == "shared" else (5,))
    )
    x = generator.normal(size=(8, *shape)).astype("float32")
    before = numpy(model(x))
    count = len(model.weights)
    order = [v.path.rpartition("/")[0] for v in model.trainable_variables]
    conversions = factorize_all(model)
    assert conversions
    np.testing.assert_allclose(numpy(model(x)), before, **CLOSE)
    removed = {id(v) for c in conversions for v in c.removed}
    assert not removed & {id(v) for v in model.weights}
    assert len(model.weights) == count + len(conversions)
    owners = [
        path.replace("/reduce", "").replace("/expand", "")
        for path in (
            v.path.rpartition("/")[0] for v in model.trainable_variables
        )
    ]
    assert list(dict.fromkeys(owners)) == list(dict.fromkeys(order))
    model.compile("sgd", "mse", jit_compile=False)
    weights = model.get_weights()
    model.fit(x, before * 2, verbose=0, batch_size=8)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(model.get_weights(), weights, strict=True)
    )


def test_kernels_that_others_read_are_products():
    layer = L.Dense(6)
    inputs = keras.Input((5,))

    class Tied(L.Layer):
        def call(self, inputs):
            return keras.ops.matmul(inputs, keras.ops.transpose(layer.kernel))

    model = keras.Model(inputs, Tied()(layer(inputs)))
    x = np.ones((2, 5), "float32")
    before = numpy(model(x))
    factorize_all(model)
    np.testing.assert_allclose(numpy(model(x)), before, **CLOSE)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize(
    ("case", "method"),
    [
        ("dense", "svd"),
        ("heads", "svd"),
        ("embedding_mask", "svd"),
        ("conv1d_causal", "channel_svd"),
        ("conv2d_strides", "cp"),
        ("conv2d_uneven", "spatial_svd"),
        ("conv3d", "tucker2"),
    ],
)
def test_saved_models_load_equal(case, method, suffix, tmp_path):
    layer = converted(case, method)
    x = inputs_for(case)
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype), layer])
    before = numpy(model(x))
    path = tmp_path / f"model{suffix}"
    if suffix == ".weights.h5":
        model.save_weights(path)
        again = keras.models.clone_model(model)
        assert again.layers[0] is not layer
        assert again.layers[0].factors[0] is not layer.factors[0]
        again.load_weights(path)
    else:
        model.save(path)
        again = keras.models.load_model(path)
    assert np.array_equal(numpy(again(x)), before)
    configs = (again.layers[0].get_config(), layer.get_config())
    assert json.dumps(configs[0]) == json.dumps(configs[1])


def functional():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    outputs = L.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    outputs = L.GlobalAveragePooling2D()(outputs)
    outputs = L.Dense(8, "relu", name="hidden")(outputs)
    model = keras.Model(inputs, L.Dense(2, name="head")(outputs))
    for name, method in [("conv", "tucker2"), ("hidden", "svd")]:
        layer = model.get_layer(name)
        found = decompositions.get(method)
        factors = found.decompose(
            canonical_kernel(layer), (2,) * found.rank_count
        )
        convert_to_low_rank(layer, method, factors)
    return model, np.random.default_rng(0).normal(size=(3, 8, 8, 3))


def test_exported_models_load_equal(tmp_path):
    model, x = functional()
    path = tmp_path / "model.h5"
    ks.export(model, path)
    for again in (ks.load_model(path), keras.models.load_model(path)):
        assert np.array_equal(numpy(again(x)), numpy(model(x)))
        assert again.get_layer("conv").ranks == (2, 2)


def test_factors_are_quantized_and_come_back(tmp_path):
    model, x = functional()
    small, report = ks.quantize(model, bits=4)
    layers = {row["layer"]: row["class"] for row in report.rows}
    assert layers["hidden/reduce"] == layers["head"] == "QuantizedDense"
    assert layers["conv/core"] == "QuantizedConv2D"
    assert not report.skipped
    before = numpy(small(x))
    layer = small.get_layer("hidden")
    assert canonical_factors(layer)[0].shape == (8, 2)
    assert "already quantized" in reason_ranks_fixed(layer)
    with pytest.raises(SqueezeError, match="'reduce': already quantized"):
        change_ranks(layer, canonical_factors(layer))
    small.save(tmp_path / "plain.keras")
    small.save(tmp_path / "plain.h5")
    ks.export(small, tmp_path / "squeezed.h5")
    for again in (
        keras.models.load_model(tmp_path / "plain.keras"),
        keras.models.load_model(tmp_path / "plain.h5"),
        ks.load_model(tmp_path / "squeezed.h5"),
    ):
        assert np.array_equal(numpy(again(x)), before)
        assert len(again.get_layer("conv").factors) == 3


def test_factors_are_pruned_by_their_paths():
    model, _ = functional()
    report = ks.pruning.apply(model, 0.5, filters="hidden/")
    assert {row["layer"] for row in report.rows} == {
        "hidden/reduce/kernel",
        "hidden/expand/kernel",
    }
    for factor in model.get_layer("hidden").factors:
        assert np.mean(numpy(factor.kernel) == 0) == 0.5


REFUSED = {
    "groups": lambda: L.Conv2D(6, 3, groups=2),
    "constraint": lambda: L.Conv2D(6, 3, kernel_constraint="non_neg"),
    "activation is a layer": lambda: L.Conv2D(6, 3, activation=L.PReLU()),
    "no factorized layer": lambda: L.DepthwiseConv2D(3),
    "subclass": lambda: type("Mine", (L.Conv2D,), {})(6, 3),
    "quantized by Keras": lambda: L.EinsumDense(
        "abcd,de->abce", (None, None, 4), dtype="int8_from_float32"
    ),
    "batch axes": lambda: L.EinsumDense("abcd,bde->abce", (4, 4, 3)),
    "is a vector": lambda: L.EinsumDense("abcd,e->abcde", (4, 4, 4, 2)),
    "first axis": lambda: L.EinsumDense("abcd,de->bace", (4, 4, 5)),
    "stands for no axis": lambda: L.EinsumDense(
        "...abcd,de->...abce", (4, 4, 5)
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_layers_that_cannot_be_factorized_say_why(reason):
    layer = REFUSED[reason]()
    layer.build((4, 4, 4, 4))
    assert reason in reason_not_factorizable(layer)
    method = "channel_svd" if hasattr(layer, "kernel_size") else "svd"
    with pytest.raises(SqueezeError, match=reason):
        convert_to_low_rank(layer, method, [np.zeros((1, 1))] * 2)


def test_state_that_would_be_lost_is_refused():
    layer = L.Dense(4)
    assert "not built" in reason_not_factorizable(layer)
    layer.build((None, 4))
    assert "no chain" in reason_not_factorizable(layer, "tucker2")
    layer.kernel.constraint = keras.constraints.NonNeg()
    assert "has a constraint" in reason_not_factorizable(layer)
    layer.kernel.constraint = None
    assert reason_not_factorizable(layer) is None
    layer.call = lambda inputs: inputs
    assert "`call` was replaced" in reason_not_factorizable(layer)
    layer = built("dense")
    layer.enable_lora(1)
    assert "LoRA" in reason_not_factorizable(layer)
    layer = converted("dense", "svd")
    assert reason_not_factorizable(layer) == "already factorized"
    layer.factors[0].kernel.constraint = keras.constraints.NonNeg()
    assert "has a constraint" in reason_ranks_fixed(layer)
    assert "not factorized" in reason_ranks_fixed(built("dense"))


@pytest.mark.parametrize("case", ["conv1d_causal", "conv2d_uneven"])
def test_depthwise_cores_that_keras_has_not_are_refused(case):
    layer = built(case)
    assert "depthwise core" in reason_not_factorizable(layer, "cp")
    assert reason_not_factorizable(layer, "tucker2") is None


@pytest.mark.parametrize(
    "factors",
    [
        [np.zeros((5, 2)), np.zeros((2, 7))],
        [np.zeros((5, 2)), np.zeros((3, 6))],
        [np.zeros((5, 2))],
        [np.zeros(5), np.zeros(6)],
    ],
)
def test_failed_changes_leave_the_layer_alone(factors):
    layer, plain = converted("dense", "svd"), built("dense")
    for changed, change in (
        (plain, lambda: convert_to_low_rank(plain, "svd", factors)),
        (layer, lambda: change_ranks(layer, factors)),
    ):
        before, kind = list(map(id, changed.weights)), type(changed)
        with pytest.raises(SqueezeError, match="Received: shapes"):
            change()
        assert type(changed) is kind
        assert list(map(id, changed.weights)) == before


def test_einsum_factors_that_cannot_be_reshaped_are_refused():
    layer = built("heads")
    with pytest.raises(SqueezeError, match="Received: shapes"):
        convert_to_low_rank(layer, "svd", [np.zeros((5, 2)), np.zeros((2, 5))])
    assert type(layer) is L.EinsumDense


def test_graphs_traced_anew_hold_the_factors():
    layer, factors = low_rank("dense", "svd")
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile(jit_compile=True)
    x = inputs_for("dense")
    before = model.predict_on_batch(x)
    convert_to_low_rank(layer, "svd", factors)
    model.predict_function = None
    np.testing.assert_allclose(model.predict_on_batch(x), before, **CLOSE)


def test_files_of_tensorflow_hold_the_factors(tmp_path):
    layer = converted("dense", "svd", rank=3)
    model = keras.Sequential([keras.Input((5,)), layer])
    change_ranks(layer, random_factors(layer, "svd", 2))
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    x = inputs_for("dense")
    np.testing.assert_allclose(numpy(served.serve(x)), numpy(model(x)), **CLOSE)
    path = tf.train.Checkpoint(model).save(tmp_path / "checkpoint")
    shapes = [shape for _, shape in tf.train.list_variables(path)]
    assert all(list(v.shape) in shapes for v in layer.weights)
