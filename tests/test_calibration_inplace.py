"""Models that cannot be copied are calibrated themselves, and put back."""

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.calibration import layerwise
from keras_squeeze.calibration.model_snapshot import ModelSnapshot
from keras_squeeze.errors import SqueezeError, UnsupportedModelError
from keras_squeeze.surgery import find_kernels, named_variables, walk_layers
from tests import models

L = keras.layers


class Scaled(L.Layer):
    """What lets a model be copied, or not."""

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.state = object()

    def call(self, inputs):
        return self.scale * inputs


class Open(Scaled):
    """The same with a config."""

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


class ClosedScaled(Scaled):
    """The same without: Keras refuses to write `scale` down."""

    def get_config(self):
        raise NotImplementedError("no config")


def graph(kind):
    """Normalizations to fold, a bias to add, channels to equalize."""
    inputs = keras.Input((10,))
    x = L.Dense(12, use_bias=False, name="a")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.ReLU()(L.Dense(12, name="b")(x))
    x = L.LayerNormalization()(x)
    outputs = L.Dense(4, name="c")(kind(1.0)(x))
    return models.randomize(keras.Model(inputs, outputs))


class Closed(keras.Model):
    """A model of a user without a config."""

    def __init__(self, pieces):
        super().__init__()
        self.pieces = pieces
        self.table = {"a": object()}

    def call(self, inputs):
        for piece in self.pieces:
            inputs = piece(inputs)
        return inputs

    def get_config(self):
        raise NotImplementedError("no config")


class Copyable(Closed):
    """The same with a config."""

    def get_config(self):
        return {"sizes": [piece.name for piece in self.pieces]}

    @classmethod
    def from_config(cls, config):
        return subclassed(cls)


def subclassed(kind):
    pieces = [
        L.Dense(12, activation="relu", name="a"),
        L.SeparableConv1D(8, 2, name="b"),
        L.BatchNormalization(name="norm"),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="c"),
    ]
    model = kind(pieces)
    model(np.zeros((1, 4, 5), "float32"))
    return models.randomize(model)


def data(model, count=48):
    shape = (4, 5) if isinstance(model, Closed) else (10,)
    rng = np.random.default_rng(3)
    return (rng.normal(size=(count, *shape)) + 0.5).astype("float32")


def outputs(model, x):
    return np.asarray(model(x))


def everything(model):
    """Structure and values, down to the objects that Keras tracks."""
    layers = [
        (type(layer), id(layer), sorted(vars(layer)))
        for _, layer in walk_layers(model)
    ]
    lists = [
        [id(v) for v in layer._trainable_variables]
        + [id(v) for v in layer._non_trainable_variables]
        for _, layer in walk_layers(model)
    ]
    ids = [
        {name: set(i) for name, i in layer._tracker.stored_ids.items()}
        for _, layer in walk_layers(model)
    ]
    values = {k: np.array(v) for k, v in named_variables(model).items()}
    return layers, lists, ids, values


def assert_same(one, other):
    assert one[:3] == other[:3]
    assert one[3].keys() == other[3].keys()
    for path, value in one[3].items():
        np.testing.assert_array_equal(value, other[3][path])


PAIRS = {
    "graph": lambda: (graph(Open), graph(ClosedScaled)),
    "subclassed": lambda: (subclassed(Copyable), subclassed(Closed)),
}


REBUILT = ["fold_batch_norm", "equalize", "activation_scaling", "reconstruct"]
LAYERWISE = ["reconstruct", "correct_bias", "reestimate_batch_norm"]


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("graph", "auto"),
        ("graph", REBUILT),
        ("subclassed", "auto"),
        ("subclassed", LAYERWISE),
    ],
)
def test_the_result_is_that_of_a_copy(kind, method):
    open_model, model = PAIRS[kind]()
    x = data(model)
    arguments = {"bits": 3, "calibration": x, "method": method}
    expected, told = ks.quantize(open_model, **arguments)
    with pytest.raises(UnsupportedModelError):
        ks.quantize(model, **arguments)
    same, report = ks.quantize(model, inplace=True, **arguments)
    assert same is model
    assert report.totals == told.totals
    assert "output_snr_db" in report.totals
    np.testing.assert_array_equal(outputs(model, x), outputs(expected, x))
    for one, other in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_units_without_data_and_average_bits():
    open_model, model = PAIRS["graph"]()
    method = ["fold_batch_norm", "equalize", "correct_bias"]
    expected, _ = ks.quantize(open_model, bits=4, method=method)
    ks.quantize(model, bits=4, method=method, inplace=True)
    x = data(model)
    np.testing.assert_array_equal(outputs(model, x), outputs(expected, x))
    open_model, model = PAIRS["graph"]()
    arguments = {"average_bits": 4.0, "calibration": x, "method": "round"}
    _, told = ks.quantize(open_model, **arguments)
    _, report = ks.quantize(model, inplace=True, **arguments)
    assert report.totals == told.totals
    assert [r["bits"] for r in report.rows] == [r["bits"] for r in told.rows]


def failing_validation(calls):
    left = iter(range(calls))

    def validate(model):
        if next(left, None) is None:
            raise RuntimeError("stop")
        return 1.0

    return validate


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("graph", "later"),
        ("graph", "validation"),
        ("subclassed", "first"),
        ("subclassed", "interrupt"),
    ],
)
def test_a_failure_in_the_middle_leaves_the_model_as_it_was(
    kind, when, monkeypatch
):
    _, model = PAIRS[kind]()
    calls = {"first": 1, "later": 5, "interrupt": 4}.get(when, -1)
    real = layerwise.quantize_reconstructing
    error = KeyboardInterrupt if when == "interrupt" else RuntimeError

    def failing(*args, **kwargs):
        nonlocal calls
        calls -= 1
        if not calls:
            raise error("stop")
        return real(*args, **kwargs)

    monkeypatch.setattr(layerwise, "quantize_reconstructing", failing)
    x, before = data(model), everything(model)
    expected = outputs(model, x)
    validate = failing_validation(2) if when == "validation" else None
    with pytest.raises(error, match="stop"):
        ks.quantize(
            model, bits=3, calibration=x, inplace=True, validate=validate
        )
    assert_same(everything(model), before)
    np.testing.assert_array_equal(outputs(model, x), expected)


def test_bad_data_leaves_the_model_as_it_was():
    _, model = PAIRS["subclassed"]()
    before = everything(model)
    x = data(model)
    x[0, 0, 0] = np.nan
    with pytest.raises(SqueezeError, match="1 NaN"):
        ks.quantize(model, bits=3, calibration=x, inplace=True)
    assert_same(everything(model), before)


def test_training_and_evaluation_go_on():
    _, model = PAIRS["graph"]()
    x = data(model)
    y = np.zeros((len(x), 4), "float32")
    sgd = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(sgd, "mse", run_eagerly=True)
    model.fit(x, y, verbose=0)
    steps = int(model.optimizer.iterations)
    _, report = ks.quantize(
        model,
        bits=4,
        method=["fold_batch_norm", "equalize", "correct_bias"],
        inplace=True,
        validate=(x, y),
    )
    assert report.totals["loss_after"] != report.totals["loss_before"]
    assert model.evaluate(x, y, verbose=0) == pytest.approx(
        report.totals["loss_after"], rel=1e-5
    )
    model.fit(x, y, verbose=0)
    assert int(model.optimizer.iterations) == 2 * steps


def test_a_snapshot_shows_what_a_model_was():
    model = graph(ClosedScaled)
    before = ModelSnapshot(model)
    kernel = find_kernels(model)[0].variable
    value = np.array(kernel)
    kernel.assign(0 * value)
    with before.shown() as shown:
        np.testing.assert_array_equal(shown.get_layer("a").kernel, value)
    assert not np.any(kernel)
    before.restore()
    np.testing.assert_array_equal(kernel, value)
