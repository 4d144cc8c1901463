import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.errors import (
    ModelMismatchError,
    NoKernelMatchedError,
    NonFiniteError,
    SqueezeError,
    UnbuiltModelError,
    UnsupportedModelError,
)
from keras_squeeze.quantizers import AbsMaxQuantizer
from keras_squeeze.surgery import (
    copy_model,
    describe_quantized_layers,
    encode_kernels,
    find_kernels,
    named_variables,
    restore_quantized_layers,
    walk_layers,
)
from tests import models

L = keras.layers


class Block(L.Layer):
    """A composite layer of a user: its sublayers are made by its class."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.up = L.Dense(2 * units, activation="relu")
        self.down = L.Dense(units)
        self.attention = L.MultiHeadAttention(2, 3)

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], 2 * self.units))
        self.attention.build(shape, shape)

    def call(self, inputs):
        x = inputs + self.attention(inputs, inputs)
        return self.down(self.up(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Closed(keras.Model):
    """A model that has no usable config."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.table = {"a": object()}

    def call(self, inputs):
        return self.layer(inputs)


class Unbuildable(keras.Model):
    """A model that can be called on values only."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = L.Dense(2)

    def call(self, inputs):
        return self.layer(inputs * float(np.asarray(inputs).sum() + 1))


def composite():
    inputs = keras.Input((4, 6))
    return keras.Model(inputs, L.Dense(2)(Block(6, name="block")(inputs)))


def everything():
    inputs = keras.Input((6, 6, 2), name="image")
    x = L.Conv2D(4, 3, name="conv")(inputs)
    x = L.SeparableConv2D(3, 3, name="separable")(x)
    x = L.Reshape((4, 3))(x)
    x = L.LSTM(3, name="lstm")(x)
    return keras.Model(inputs, L.Dense(2, name="dense")(x), name="everything")


def state(model):
    return {
        path: keras.ops.convert_to_numpy(v.value)
        for path, v in named_variables(model).items()
    }


def same_state(first, second):
    return list(first) == list(second) and all(
        np.array_equal(first[path], second[path]) for path in first
    )


def outputs(model, x):
    flat = keras.tree.flatten(model(x))
    return [keras.ops.convert_to_numpy(tensor) for tensor in flat]


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", models.ALL)
def test_copy_is_equal_and_shares_nothing(kind):
    model, x = models.make(kind)
    copy = copy_model(model)
    assert type(copy) is type(model) and copy.name == model.name
    assert same_state(state(model), state(copy))
    assert equal(outputs(model, x), outputs(copy, x))
    assert [path for path, _ in walk_layers(copy)] == [
        path for path, _ in walk_layers(model)
    ]
    mine = {id(v) for v in named_variables(model).values()}
    assert not mine & {id(v) for v in named_variables(copy).values()}


@pytest.mark.parametrize("kind", models.ALL)
def test_quantize_leaves_the_model_untouched(kind):
    model, x = models.make(kind)
    before, expected = state(model), outputs(model, x)
    classes = [type(layer) for _, layer in walk_layers(model)]
    small, report = ks.quantize(model, bits=8)
    assert same_state(state(model), before)
    assert equal(outputs(model, x), expected)
    assert [type(layer) for _, layer in walk_layers(model)] == classes
    for a, b in zip(outputs(small, x), expected, strict=True):
        assert np.abs(a - b).max() <= 0.05 * np.abs(b).max()
    assert report.totals["bytes_after"] < report.totals["bytes_before"]


@pytest.mark.parametrize("kind", ["functional", "nested", "attention"])
def test_predictions_are_those_of_the_dequantized_kernels(kind):
    model, x = models.make(kind)
    small, _ = ks.quantize(model, bits=3)
    kernels = {k.path: k.variable for k in find_kernels(model)}
    for path, layer in walk_layers(small):
        if hasattr(layer, "quantized_kernel"):
            for name in layer.layouts:
                tensor = layer.quantized_kernel(name)
                kernels[f"{path}/{name}"].assign(tensor.dequantize())
    for a, b in zip(outputs(small, x), outputs(model, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_report_says_what_was_done_and_what_was_left():
    model = everything()
    small, report = ks.quantize(model, bits=4, filters="conv|lstm|sep")
    rows = {(row["layer"], row["kernel"]): row for row in report.rows}
    assert list(rows) == [
        ("conv", "kernel"),
        ("separable", "depthwise_kernel"),
        ("separable", "pointwise_kernel"),
        ("lstm/lstm_cell", "kernel"),
        ("lstm/lstm_cell", "recurrent_kernel"),
    ]
    row = rows["conv", "kernel"]
    assert row["class"] == "QuantizedConv2D" and row["bits"] == 4
    assert row["shape"] == [3, 3, 2, 4]
    assert row["granularity"] == "per_channel"
    assert (row["bytes_before"], row["bytes_after"]) == (288, 36 + 16)
    assert 15 < row["snr_db"] < 40 and 0 <= row["sparsity"] < 0.5
    assert report.totals["bits_per_weight"] == 4
    assert report.skipped == (
        {"path": "dense/kernel", "reason": "not matched by `filters`"},
    )
    json.dumps(report.to_dict(), allow_nan=False)
    assert "QuantizedConv2D" in str(report)
    assert type(small.get_layer("dense")) is L.Dense


def test_layers_without_a_quantized_class_are_skipped_with_a_reason():
    class Own(L.Dense):
        pass

    model = keras.Sequential(
        [keras.Input((3,)), Own(3, name="own"), L.Dense(2)]
    )
    _, report = ks.quantize(model)
    assert report.skipped == (
        {
            "path": "own/kernel",
            "reason": "a subclass of a Keras layer: Own",
        },
    )


def test_pruned_weights_stay_zero_and_are_counted():
    model = keras.Sequential([keras.Input((10,)), L.Dense(10)])
    kernel = model.layers[0].kernel
    mask = np.arange(100).reshape(10, 10) % 4 == 0
    kernel.assign(np.where(mask, np.linspace(0.5, 1, 100).reshape(10, 10), 0))
    small, report = ks.quantize(model, bits=8, quantizer="absmax")
    assert not np.any(small.layers[0].kernel.numpy()[~mask])
    assert report.rows[0]["sparsity"] == pytest.approx(0.75)


def test_exact_kernels_have_no_noise_ratio():
    model = keras.Sequential([keras.Input((2,)), L.Dense(2)])
    model.layers[0].kernel.assign(np.zeros((2, 2)))
    _, report = ks.quantize(model)
    assert report.rows[0]["snr_db"] is None


def test_filters_by_callable_and_granularity():
    model = models.make("nested")[0]
    small, report = ks.quantize(
        model,
        bits=4,
        granularity="per_group",
        group_size=2,
        filters=lambda layer: layer.name == "same",
        quantizer="absmax",
    )
    assert [row["layer"] for row in report.rows] == [
        *("second/same", "third/same"),
    ]
    layer = small.get_layer("second").get_layer("same")
    assert tuple(layer.kernel_scale.shape) == (5, 3)
    assert layer.kernel_quantizer == AbsMaxQuantizer(4, "per_group", 2)


def test_quantizer_object_brings_its_own_bits():
    model = models.make("shared")[0]
    quantizer = AbsMaxQuantizer(bits=2, granularity="per_tensor")
    small, report = ks.quantize(model, quantizer=quantizer)
    assert [row["bits"] for row in report.rows] == [2]
    assert small.get_layer("shared").kernel_quantizer == quantizer


def test_quantized_copy_is_compiled_alike_with_a_fresh_optimizer():
    model, x = models.make("sequential")
    labels = np.arange(len(x)) % 5
    model.compile(
        keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(x, labels, verbose=0)
    small, _ = ks.quantize(model, bits=4)
    assert set(small.evaluate(x, labels, verbose=0, return_dict=True)) == {
        *("accuracy", "loss"),
    }
    small.fit(x, labels, verbose=0)
    assert float(small.optimizer.learning_rate) == pytest.approx(0.01)
    assert int(small.optimizer.iterations) == 1
    slots = len(small.optimizer.variables) - 2
    assert slots == 2 * len(small.trainable_variables)


def test_a_loss_of_ones_own_leaves_the_copy_uncompiled():
    model, x = models.make("sequential")
    model.compile("sgd", lambda y_true, y_pred: y_pred * float(len(x)))
    small, _ = ks.quantize(model)
    assert not small.compiled
    assert small.predict(x, verbose=0).shape == (3, 5)


def test_quantizing_again_takes_what_is_left():
    model = models.make("functional")[0]
    first, _ = ks.quantize(model, bits=4, filters="left")
    second, report = ks.quantize(first, bits=8)
    assert [row["bits"] for row in report.rows] == [8, 8]
    assert {"path": "left", "reason": "already quantized"} in report.skipped
    assert second.get_layer("left").kernel_quantizer.bits == 4


def test_sublayers_of_composite_layers_are_quantized_and_copied():
    model = models.randomize(composite())
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    small, report = ks.quantize(model, bits=4)
    names = {row["layer"].split("/")[0] for row in report.rows}
    assert len(report.rows) == 7 and "block" in names
    again = copy_model(small)
    assert same_state(state(small), state(again))
    assert equal(outputs(small, x), outputs(again, x))
    block = again.get_layer("block")
    assert type(block.up).__name__ == "QuantizedDense"
    assert type(block.attention).__name__ == "QuantizedMultiHeadAttention"


def test_structure_is_json_and_restores_a_fresh_model():
    small, _ = ks.quantize(models.randomize(composite()), bits=3)
    specs = json.loads(json.dumps(describe_quantized_layers(small)))
    assert specs[0].keys() == {"path", "class_name", "quantizer"}
    fresh = copy_model(models.randomize(composite()))
    for (_, old), (_, new) in zip(
        walk_layers(small), walk_layers(fresh), strict=True
    ):
        new.name = old.name
    restore_quantized_layers(fresh, specs)
    restore_quantized_layers(fresh, specs)
    assert list(named_variables(fresh)) == list(named_variables(small))
    for path, value in state(small).items():
        named_variables(fresh)[path].assign(value)
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    assert equal(outputs(small, x), outputs(fresh, x))
    assert describe_quantized_layers(fresh) == specs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "nowhere"}, r"'nowhere'.*Received: a model with"),
        ({"class_name": "QuantizedConv2D"}, r"QuantizedConv2D.*Dense"),
    ],
)
def test_structure_that_does_not_fit_changes_nothing(change, message):
    model = models.make("functional")[0]
    specs = describe_quantized_layers(ks.quantize(model)[0])
    broken = [*specs[:-1], {**specs[-1], **change}]
    before = state(model)
    with pytest.raises(ModelMismatchError, match=message):
        restore_quantized_layers(model, broken)
    assert same_state(state(model), before)
    small, _ = ks.quantize(model, bits=4)
    with pytest.raises(ModelMismatchError, match=r"'bits': 4"):
        restore_quantized_layers(small, specs)


def test_encode_kernels_covers_recurrent_and_separable_kernels():
    model = everything()
    encoded = encode_kernels(model, bits=4)
    kernels = find_kernels(model)
    assert list(encoded) == [id(kernel.variable) for kernel in kernels]
    axes = {k.path: encoded[id(k.variable)].axis for k in kernels}
    assert axes == {
        "conv/kernel": (3,),
        "separable/depthwise_kernel": (2, 3),
        "separable/pointwise_kernel": (3,),
        "lstm/lstm_cell/kernel": (1,),
        "lstm/lstm_cell/recurrent_kernel": (1,),
        "dense/kernel": (1,),
    }


def test_nothing_matched_lists_the_candidates():
    with pytest.raises(
        NoKernelMatchedError,
        match=r"conv/kernel, sep.*lstm.*dense/kernel.*Received: "
        "filters='dens_e'",
    ):
        ks.quantize(everything(), filters="dens_e")
    model = keras.Sequential([keras.Input((3,)), L.BatchNormalization()])
    with pytest.raises(NoKernelMatchedError, match=r"BatchNormalization"):
        ks.quantize(model)


def test_non_finite_weights_name_the_layer():
    model = everything()
    kernel = model.get_layer("dense").kernel
    values = kernel.numpy()
    values[1] = np.inf
    kernel.assign(values)
    with pytest.raises(
        NonFiniteError, match=r"dense/kernel.*Received: 2 NaN or infinite"
    ):
        ks.quantize(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 9}, r"from 1 to 8.*Received: bits=9"),
        ({"bits": 16}, r"from 1 to 8.*Received: bits=16"),
        ({"granularity": "rows"}, r"Received: granularity='rows'"),
        ({"quantizer": "best"}, r"'mse'.*Received: 'best'"),
        ({"filters": 3}, r"regex or a callable.*Received: 3"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(SqueezeError, match=message):
        ks.quantize(models.sequential(), **arguments)


def test_unbuilt_and_uncopyable_models():
    with pytest.raises(UnbuiltModelError, match=r"Received: unbuilt"):
        ks.quantize(keras.Sequential([L.Dense(3)]))
    model = Closed(L.Dense(2))
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(UnsupportedModelError, match=r"get_config.*Received"):
        ks.quantize(model)
    model = Unbuildable()
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(UnsupportedModelError, match=r"cannot build"):
        copy_model(model)
    with pytest.raises(SqueezeError, match=r"Received: str"):
        copy_model("model.h5")


def test_lambda_layers_of_a_live_model_are_trusted():
    inputs = keras.Input((3,))
    x = L.Lambda(lambda t: 2.0 * t)(L.Dense(3)(inputs))
    model = keras.Model(inputs, x)
    value = np.ones((1, 3), "float32")
    assert equal(outputs(model, value), outputs(copy_model(model), value))


def test_layers_quantized_by_keras_are_left_alone():
    model = keras.Sequential(
        [keras.Input((4,)), L.Dense(4, name="a"), L.Dense(4, name="b")]
    )
    model.layers[0].quantize("int8")
    small, report = ks.quantize(model, bits=4)
    assert [row["layer"] for row in report.rows] == ["b"]
    assert report.skipped == (
        {"path": "a", "reason": "already quantized by Keras (int8)"},
    )
    x = np.ones((1, 4), "float32")
    np.testing.assert_allclose(
        outputs(small, x)[0], outputs(model, x)[0], atol=0.5
    )


@pytest.mark.parametrize(
    "statement",
    [
        "from keras_squeeze.surgery.quantized_structure import *",
        "import keras_squeeze.layers.conversion",
    ],
)
def test_every_door_opens_first(statement):
    script = statement + (
        "; import keras; assert keras.saving.get_registered_object("
        "'keras_squeeze>QuantizedDense') is not None"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("quantizer", ["rate_distortion", "trellis"])
def test_quantizers_for_the_coder_make_layers_too(tmp_path, quantizer):
    model, x = models.make("sequential")
    small, _ = ks.quantize(model, bits=5, quantizer=quantizer)
    expected = np.asarray(small(x))
    assert np.mean((expected - np.asarray(model(x))) ** 2) < 0.05 * np.mean(
        expected**2
    )
    ks.export(small, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    np.testing.assert_array_equal(np.asarray(loaded(x)), expected)


def trained(seed=0):
    """A model of layers whose inputs are alike, and inputs."""
    rng = np.random.default_rng(seed)
    layers = [L.Dense(16, activation="relu", name="a"), L.Dense(16, name="b")]
    norm = L.BatchNormalization(name="norm")
    model = keras.Sequential(
        [keras.Input((8,)), *layers, norm, L.ReLU(), L.Dense(3, name="c")]
    )
    models.randomize(model)
    norm.moving_variance.assign(np.ones(16))
    x = rng.normal(size=(96, 3)) @ rng.normal(size=(3, 8))
    return model, x.astype("float32")


def mean_square(first, second):
    return float(np.mean((np.asarray(first) - np.asarray(second)) ** 2))


def test_calibration_lowers_the_error_and_the_report_follows_it():
    model, x = trained()
    model.compile("sgd", "mse", run_eagerly=True)
    y = np.zeros((96, 3), "float32")
    before = state(model)
    rounded, _ = ks.quantize(model, bits=3)
    small, report = ks.quantize(model, bits=3, calibration=x, validate=(x, y))
    assert same_state(state(model), before)
    assert mean_square(small(x), model(x)) < 0.5 * mean_square(
        rounded(x), model(x)
    )
    totals = report.totals
    assert "reconstruct" in totals["method"]
    assert totals["output_snr_db"] > totals["output_snr_db_round"] + 3
    assert totals["loss_before"] == model.evaluate(x, y, verbose=0)
    assert totals["loss_after"] == small.evaluate(x, y, verbose=0)
    assert "loss_round" in totals and "loss_reconstruct" in totals
    json.dumps(report.to_dict(), allow_nan=False)


def test_units_are_chosen_by_name():
    model, x = trained()
    small, report = ks.quantize(
        model, bits=4, calibration=x, method=["fold_batch_norm", "reconstruct"]
    )
    assert report.totals["method"] == "fold_batch_norm, reconstruct"
    assert type(small.get_layer("norm")) is L.Identity
    assert mean_square(small(x), model(x)) < 0.05 * np.var(np.asarray(model(x)))
    plain, report = ks.quantize(model, bits=4, calibration=x, method="round")
    rounded, _ = ks.quantize(model, bits=4)
    assert same_state(state(plain), state(rounded))


def test_bits_by_regex():
    model, _ = trained()
    small, report = ks.quantize(model, bits={"a|c": 8, "b": 3})
    assert [row["bits"] for row in report.rows] == [8, 3, 8]
    assert small.get_layer("b").kernel_quantizer.bits == 3
    _, report = ks.quantize(model, bits={"b": 2, "a/": 4})
    assert [row["layer"] for row in report.rows] == ["a", "b"]
    assert report.skipped == (
        {"path": "c/kernel", "reason": "not matched by a regex of `bits`"},
    )
    with pytest.raises(NoKernelMatchedError, match=r"Received: 'nowhere'"):
        ks.quantize(model, bits={"nowhere": 4, "": 8})
    with pytest.raises(SqueezeError, match=r"Received: AbsMaxQuantizer"):
        ks.quantize(model, bits={"": 4}, quantizer=AbsMaxQuantizer())


@pytest.mark.parametrize("calibrated", [False, True])
def test_average_bits_give_each_layer_its_own(calibrated):
    model, x = trained()
    kernel = model.get_layer("b").kernel
    kernel.assign(np.sign(kernel.numpy()))
    data = {"calibration": x, "method": "round"} if calibrated else {}
    _, report = ks.quantize(model, average_bits=4.5, **data)
    bits = {row["layer"]: row["bits"] for row in report.rows}
    assert report.totals["bits_per_weight"] <= 4.5
    assert bits["b"] < 3 < min(bits["a"], bits["c"])
    with pytest.raises(SqueezeError, match=r"Received: average_bits=0.5"):
        ks.quantize(model, average_bits=0.5)
    with pytest.raises(SqueezeError, match=r"also bits={'': 3}"):
        ks.quantize(model, bits={"": 3}, average_bits=4)


def test_a_model_is_changed_in_place_and_its_training_goes_on():
    model, x = trained()
    y = np.zeros((96, 3), "float32")
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(x, y, batch_size=48, verbose=0)
    bias = model.get_layer("c").bias
    kept = np.asarray(
        model.optimizer._momentums[model.optimizer._get_variable_index(bias)]
    )
    expected, _ = ks.quantize(
        model, bits=4, calibration=x, method=["fold_batch_norm", "reconstruct"]
    )
    same, _ = ks.quantize(
        model,
        bits=4,
        calibration=x,
        method=["fold_batch_norm", "reconstruct"],
        inplace=True,
    )
    assert same is model and type(model.get_layer("norm")) is L.Identity
    assert same_state(state(model), state(expected))
    optimizer = model.optimizer
    index = optimizer._get_variable_index(bias)
    np.testing.assert_array_equal(optimizer._momentums[index], kept)
    assert int(optimizer.iterations) == 2
    codes = model.get_layer("a").quantized_kernel().codes
    model.fit(x, y, batch_size=48, verbose=0)
    np.testing.assert_array_equal(
        model.get_layer("a").quantized_kernel().codes, codes
    )
    assert int(optimizer.iterations) == 4
    assert not np.array_equal(
        model.get_layer("c").bias, expected.layers[-1].bias
    )


@pytest.mark.parametrize("kind", ["subclassed", "nested", "attention"])
def test_models_of_all_kinds_change_in_place(kind):
    model, x = models.make(kind)
    model(x)
    expected, _ = ks.quantize(model, bits=4)
    assert ks.quantize(model, bits=4, inplace=True)[0] is model
    assert equal(outputs(model, x), outputs(expected, x))


def test_a_model_that_cannot_be_copied_changes_in_place():
    model = Closed(L.Dense(2))
    x = np.ones((1, 3), "float32")
    model(x)
    _, report = ks.quantize(model, bits=8, inplace=True)
    assert [row["class"] for row in report.rows] == ["QuantizedDense"]
    assert type(model.layer).__name__ == "QuantizedDense"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calibration": np.zeros((0, 8))}, r"at least one sample"),
        ({"calibration": np.zeros((4, 7))}, r"shape \(None, 8\)"),
        ({"method": "best"}, r"Received: method='best'"),
        ({"method": ["reconstruct"]}, r"Received: None"),
        ({"bits": {}}, r"Received: bits={}"),
        ({"bits": {"a": 9}}, r"Received: bits=9"),
        (
            {"granularity": "per_group", "group_size": 0},
            r"Received: group_size=0",
        ),
        ({"validate": (1, 2)}, r"uncompiled model"),
    ],
)
def test_bad_arguments_change_nothing_in_place(arguments, message):
    model, _ = trained()
    before, classes = state(model), [type(layer) for layer in model.layers]
    with pytest.raises(SqueezeError, match=message):
        ks.quantize(model, inplace=True, **arguments)
    assert same_state(state(model), before)
    assert [type(layer) for layer in model.layers] == classes


def test_calibration_data_of_another_shape_is_refused():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 3)]
    )
    wrong = np.ones((4, 5, 6, 2), "float32")
    with pytest.raises(SqueezeError, match=r"\(4, 5, 6, 2\)"):
        ks.quantize(model, bits=4, calibration=wrong)
