"""What `shrink` promises: outputs, widths, reports, files, training."""

import zipfile

import keras
import numpy as np
import pytest

from keras_squeeze.errors import (
    NoKernelMatchedError,
    SqueezeError,
    UnbuiltModelError,
    UnsupportedModelError,
)
from keras_squeeze.shrinking import choose_channels, mask_channels, shrink
from keras_squeeze.shrinking.latency import sample_batch
from tests import models
from tests.shrink_models import (
    L,
    bias_takes_constants,
    difference,
    enliven,
    residual,
    sequential,
    shared,
)


def silence(layer, channels, bias=None):
    """Makes the kernel of some channels zero, and their bias a number."""
    kernel, *rest = layer.get_weights()
    kernel[..., channels] = 0
    if bias is not None:
        rest[0][channels] = bias
    layer.set_weights([kernel, *rest])


def pair(padding="valid", activation="relu", use_bias=True):
    """Two convolutions and a dense layer with random weights."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(6, 3, activation=activation, name="first"),
            L.Conv2D(5, 3, padding=padding, use_bias=use_bias, name="second"),
            L.GlobalAveragePooling2D(),
            L.Dense(3, name="last"),
        ]
    )
    return enliven(model)


def same(model, smaller):
    return difference(model, smaller, sample_batch(model, 4)) < 1e-5


def test_zero_channels_go_and_nothing_else_changes():
    model = pair("same")
    silence(model.get_layer("first"), [1, 4], bias=-0.5)
    before = model.get_weights()
    smaller, report = shrink(model)
    assert smaller.get_layer("first").filters == 4
    assert same(model, smaller)
    assert [layer.name for layer in smaller.layers] == [
        layer.name for layer in model.layers
    ]
    assert all(map(np.array_equal, before, model.get_weights()))
    assert report.rows[0]["channels_before"] == 6
    assert report.rows[0]["channels_after"] == 4


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_bias_takes_what_constant_channels_gave(use_bias):
    model = pair("valid", use_bias=use_bias)
    silence(model.get_layer("first"), [0, 5], bias=0.7)
    smaller, _ = shrink(model)
    assert smaller.get_layer("first").filters == 4
    assert smaller.get_layer("second").use_bias
    assert same(model, smaller)


def test_a_constant_at_a_padded_border_stays_unless_asked():
    model = pair("same")
    silence(model.get_layer("first"), [0, 5], bias=0.7)
    smaller, report = shrink(model)
    assert smaller.get_layer("first").filters == 6
    assert "not zero where a padded" in str(report)
    inexact, _ = shrink(model, exact=False)
    assert inexact.get_layer("first").filters == 4
    assert same(mask_channels(model, {"first": [0, 5]}), inexact)
    assert choose_channels(model, exact=False) == {"first": [0, 5]}


def test_channels_that_nobody_reads_go():
    model = pair()
    kernel, bias = model.get_layer("second").get_weights()
    kernel[:, :, [2, 3]] = 0
    model.get_layer("second").set_weights([kernel, bias])
    smaller, _ = shrink(model)
    assert smaller.get_layer("first").filters == 4
    assert same(model, smaller)


def test_normalization_makes_constants_that_count():
    model = residual()
    enliven(model)
    silence(model.get_layer("a"), [3], bias=0.0)
    norm = model.layers[model.layers.index(model.get_layer("a")) + 1]
    beta = norm.beta.numpy()
    for value, filters in ((-9.0, 15), (9.0, 16)):
        beta[3] = value
        norm.beta.assign(beta)
        smaller, _ = shrink(model)
        assert smaller.get_layer("a").filters == filters
        assert same(model, smaller)


def test_one_channel_is_left_in_a_silent_layer():
    model = pair()
    silence(model.get_layer("first"), slice(None), bias=0.0)
    smaller, _ = shrink(model)
    assert smaller.get_layer("first").filters == 1
    assert same(model, smaller)


def test_residual_channels_go_when_all_their_producers_are_silent():
    model = enliven(residual())
    model.get_layer("stem").kernel.assign(
        model.get_layer("stem").kernel.numpy() * (np.arange(16) > 3)
    )
    for norm in model.layers:
        if isinstance(norm, L.BatchNormalization) and norm.beta is not None:
            norm.beta.assign(np.full(norm.beta.shape, -0.1))
            norm.moving_mean.assign(np.zeros(norm.beta.shape))
    assert "stem" not in choose_channels(model, exact=False)
    silence(model.get_layer("b"), slice(0, 4), bias=0.0)
    chosen = choose_channels(model, exact=False)
    assert chosen["stem"] == chosen["b"] == [0, 1, 2, 3]


def test_parameters_and_operations_fall_as_predicted():
    model = sequential()
    channels = {"first": [0, 1], "second": [3], "third": range(8)}
    smaller, report = shrink(model, channels=channels)
    # 3x3 kernels on 10x10 and 4x4 places; flattened to 4 * 4 * 15.
    weights = (9 * 3 * 6, 9 * 6 * 15, 16 * 15 * 8, 8 * 4)
    places = (100, 16, 1, 1)
    macs = sum(n * p for n, p in zip(weights, places, strict=True))
    parameters = sum(weights) + 6 + 4 * 6 + 15 + 8 + 4
    assert report.totals["macs_after"] == macs
    assert report.totals["parameters_after"] == parameters
    assert smaller.count_params() == parameters


def test_share_of_every_set_of_coupled_channels():
    smaller, _ = shrink(residual(), sparsity=0.5)
    widths = {
        layer.name: layer.get_config().get("filters")
        for layer in smaller.layers
        if "filters" in layer.get_config()
    }
    assert widths == {"stem": 8, "a": 8, "b": 8, "left": 4}
    assert smaller.get_layer("hidden").units == 12


def test_smallest_channels_go_first():
    model = pair()
    kernel, bias = model.get_layer("first").get_weights()
    kernel *= np.array([3, 1, 4, 0.1, 5, 9.0])
    model.get_layer("first").set_weights([kernel, bias])
    assert choose_channels(model, 0.34)["first"] == [1, 3]
    biggest_first = {"class_name": "Backwards"}
    with pytest.raises(SqueezeError):
        choose_channels(model, 0.34, criterion=biggest_first)


def test_widths_are_rounded_up_with_the_best_channels():
    model = sequential()
    kernel = model.get_layer("third").kernel
    kernel.assign(np.ones(kernel.shape) * np.arange(1, 17))
    chosen = choose_channels(model, 0.6, round_to=8)
    assert set(chosen) == {"second", "third"}
    assert chosen["third"] == list(range(8))
    smaller, _ = shrink(model, sparsity=0.6, round_to=8)
    assert smaller.get_layer("first").filters == 8
    assert smaller.get_layer("third").units == 8


@pytest.mark.parametrize(
    "filters", ["^(a|hidden)$", lambda layer: layer.name in ("a", "hidden")]
)
def test_filters_choose_the_layers(filters):
    assert set(choose_channels(residual(), 0.5, filters=filters)) == {
        "a",
        "hidden",
    }


def test_filters_must_name_all_layers_that_share_channels():
    with pytest.raises(NoKernelMatchedError, match=r"'stem'\]\. Received"):
        shrink(residual(), sparsity=0.5, filters="stem")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": {"nowhere": [0]}}, "path of a layer.*nowhere"),
        ({"channels": {"first": [8]}}, r"indices of the 8 channels.*\[8\]"),
        ({"channels": {"first": range(8)}}, "at least one.*'first'"),
        ({"channels": {"last": [0]}}, "cannot: they are the model's output"),
        ({"channels": {"first": [0]}, "sparsity": 0.1}, "not both"),
        ({"sparsity": 1.0}, r"in \[0, 1\).*1.0"),
        ({"round_to": 0}, "integer from 1.*0"),
        ({"sparsity": 0.5, "criterion": "gradient_l1"}, "gradient_l1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(SqueezeError, match=f"(?s){message}"):
        shrink(sequential(), **arguments)


def test_channels_that_masking_does_not_make_zero_are_refused():
    model = pair("same", "sigmoid")
    with pytest.raises(SqueezeError, match=r"constant.*\['first'\]"):
        shrink(model, channels={"first": [0]})
    smaller, report = shrink(model, sparsity=0.4)
    assert smaller.get_layer("first").filters == 6
    assert smaller.get_layer("second").filters == 3
    assert any(entry["path"] == "first" for entry in report.skipped)


def test_a_shared_layer_keeps_constants_that_its_bias_cannot_take():
    model = shared()
    silence(model.get_layer("shared"), [0], bias=1.0)
    smaller, _ = shrink(model)
    assert smaller.get_layer("shared").units == 8
    assert same(model, smaller)


def test_model_without_a_graph_is_copied_and_reported():
    model, x = models.make("subclassed")
    smaller, report = shrink(model)
    assert np.array_equal(model(x), smaller(x))
    assert smaller is not model
    assert "a Subclassed describes no graph" in report.skipped[0]["reason"]
    for function in (choose_channels, lambda m: mask_channels(m, {})):
        with pytest.raises(UnsupportedModelError, match="Subclassed"):
            function(model)


class OwnLayers(keras.Model):
    def __init__(self, **options):
        inputs = keras.Input((4,))
        hidden = L.Dense(8, name="hidden")(inputs)
        super().__init__(inputs, L.Dense(2)(hidden), **options)


class OwnStep(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


def test_classes_that_are_graphs_are_shrunk_where_a_config_makes_them():
    own = OwnLayers()
    smaller, report = shrink(own, sparsity=0.5)
    assert smaller.get_layer("hidden").units == 8
    assert report.skipped
    outer = keras.Sequential([keras.Input((4,)), L.Dense(4, name="d"), own])
    assert choose_channels(outer, 0.5) == {}
    step = OwnStep(own.inputs, own.outputs)
    smaller, _ = shrink(step, sparsity=0.5)
    assert type(smaller) is OwnStep
    assert smaller.get_layer("hidden").units == 4


def test_unbuilt_model_is_refused():
    with pytest.raises(UnbuiltModelError):
        shrink(keras.Sequential([L.Dense(2)]))


def test_report_measures_latency_when_asked():
    model = enliven(bias_takes_constants())
    _, report = shrink(model, sparsity=0.5, measure_latency=True, batch_size=4)
    assert report.totals["latency_ms_before"] > 0
    assert report.totals["latency_ms_after"] > 0
    assert "parameters before" in str(report)


def test_file_of_the_smaller_model_is_plain_keras(tmp_path):
    smaller, _ = shrink(residual(), sparsity=0.3)
    smaller.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as file:
        config = file.read("config.json").decode()
    assert "keras_squeeze" not in config
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.get_layer("stem").filters == 11
    assert difference(smaller, loaded, sample_batch(smaller, 2)) == 0


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True)
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_if_nothing_had_happened(name, rng):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(16, activation="relu", name="first"),
            L.Dense(2, name="last"),
        ]
    )
    model.compile(OPTIMIZERS[name](), loss="mse", metrics=["mae"])
    x, y = rng.normal(size=(16, 6)), rng.normal(size=(16, 2))
    for _ in range(4):
        model.train_on_batch(x, y)
    silence(model.get_layer("first"), [2, 9], bias=-5.0)
    smaller, _ = shrink(model)
    for optimizer in (model.optimizer, smaller.optimizer):
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        assert inner.iterations == 4
    for _ in range(3):
        model.reset_metrics()
        smaller.reset_metrics()
        assert np.allclose(
            model.train_on_batch(x, y), smaller.train_on_batch(x, y), atol=1e-5
        )
    kept = np.delete(np.arange(16), [2, 9])
    assert np.allclose(
        model.get_layer("first").kernel.numpy()[:, kept],
        smaller.get_layer("first").kernel.numpy(),
        atol=1e-5,
    )


def test_masked_copy_is_zero_in_all_coupled_layers():
    model = enliven(residual())
    masked = mask_channels(model, {"stem": [5]})
    for name in ("stem", "b"):
        assert not masked.get_layer(name).kernel.numpy()[..., 5].any()
    assert not masked.get_layer("b").bias.numpy()[5]
    assert masked.get_layer("a").kernel.numpy()[:, :, 5].any()
    assert model.get_layer("stem").kernel.numpy()[..., 5].any()
