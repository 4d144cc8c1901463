import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.errors import (
    NoKernelMatchedError,
    NonFiniteError,
    SqueezeError,
    UnbuiltModelError,
    UnsupportedModelError,
)
from keras_squeeze.factorizing import factorize, plan_layers, to_stock
from keras_squeeze.layers.canonical_kernels import canonical_kernel
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.low_rank import decompositions
from keras_squeeze.low_rank.kernel_info import Choice
from keras_squeeze.shrinking import count_macs
from keras_squeeze.surgery.layer_tree import named_variables, walk_layers
from tests import low_rank_models as models

L = keras.layers
GRAPHS = ("attention", "convolutions", "masked", "nested", "sequences")


@pytest.fixture(scope="module")
def made():
    return {kind: models.make(kind) for kind in models.ALL}


def dense(units=32, inputs=32, **kwargs):
    layer = L.Dense(units, name="hidden", **kwargs)
    return keras.Sequential([keras.Input((inputs,)), layer])


def low_rank_paths(model):
    return [p for p, x in walk_layers(model) if isinstance(x, LowRankLayer)]


def state(model):
    return {p: v.numpy().copy() for p, v in named_variables(model).items()}


def assert_close(received, expected):
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("method", ["channel_svd", "spatial_svd", "tucker2"])
def test_full_rank_equals_the_model_for_convolutions(made, method):
    model, x = made["convolutions"]
    stock = to_stock(models.at_full_rank(model, method))
    assert not low_rank_paths(stock)
    assert_close(models.outputs(stock, x), models.outputs(model, x))


@pytest.mark.parametrize("kind", sorted(set(GRAPHS) - {"convolutions"}))
def test_full_rank_equals_the_model(made, kind):
    model, x = made[kind]
    whole = models.at_full_rank(model)
    assert low_rank_paths(whole)
    stock = to_stock(whole)
    expected = models.outputs(model, x)
    assert_close(models.outputs(whole, x), expected)
    assert_close(models.outputs(stock, x), expected)
    assert stock.name == model.name and type(stock) is type(model)
    assert stock.output_shape == model.output_shape


@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, "auto") for kind in GRAPHS]
    + [("convolutions", m) for m in ("cp", "spatial_svd", "tucker2")],
)
def test_factorize_computes_what_the_products_would(made, kind, method):
    model, x = made[kind]
    before = state(model)
    smaller, report = factorize(model, rank=2, method=method)
    after = state(model)
    assert all(np.array_equal(before[path], after[path]) for path in before)
    reference = ks.surgery.copy_model(model)
    kernels = {k.layer: k for k in ks.surgery.find_kernels(reference)}
    layers = dict(walk_layers(reference))
    for path, layer, choice in plan_layers(model, rank=2, method=method):
        if isinstance(choice, Choice):
            low = decompositions.get(choice.method)
            kernel = canonical_kernel(layer)
            product = low.compose(low.decompose(kernel, choice.ranks))
            variable = kernels[layers[path]].variable
            variable.assign(product.reshape(variable.shape))
    assert report.rows
    assert_close(models.outputs(smaller, x), models.outputs(reference, x))


def test_report_tells_the_measured_error_and_the_sizes(made):
    model, _ = made["convolutions"]
    smaller, report = factorize(model, rank=3, min_saving=0.1)
    layers = dict(walk_layers(model))
    found = dict(walk_layers(smaller))
    for row in report.rows:
        exact = canonical_kernel(layers[row["layer"]])
        name, last = row["layer"], row["layer"]
        if f"{name}_expand" in found:
            last = f"{name}_expand"
        core = [f"{name}_core"] if f"{name}_core" in found else []
        factors = [f"{name}_reduce", *core, last]
        arrays = [found[f].kernel.numpy() for f in factors]
        product = decompositions.get(row["method"]).compose(arrays)
        lost = np.linalg.norm(exact - product) / np.linalg.norm(exact)
        assert row["error"] == pytest.approx(lost, rel=1e-4)
        assert row["parameters_after"] == sum(a.size for a in arrays)
        assert row["parameters_before"] == exact.size
    totals = report.totals
    assert totals["parameters_before"] == model.count_params()
    assert totals["parameters_after"] == smaller.count_params()
    saved = sum(row["macs_before"] - row["macs_after"] for row in report.rows)
    assert totals["macs_after"] == sum(count_macs(smaller).values())
    assert totals["macs_after"] == totals["macs_before"] - saved
    json.dumps(report.to_dict(), allow_nan=False)
    assert "first" in str(report) and {"path", "reason"} == set(
        report.skipped[0]
    )


def test_errors_are_those_of_the_truncated_spectrum():
    model = dense()
    _, report = factorize(model, rank=5)
    values = np.linalg.svd(model.layers[0].kernel.numpy(), compute_uv=False)
    expected = np.sqrt((values[5:] ** 2).sum() / (values**2).sum())
    assert report.rows[0]["error"] == pytest.approx(expected, rel=1e-4)


def test_names_order_and_sharing(made):
    smaller, report = factorize(made["nested"][0], rank=2)
    names = [path for path, _ in walk_layers(smaller)]
    assert "block/shared_reduce" in names and "block/shared_expand" in names
    assert "inner/same_reduce" in names and "block/same_expand" not in names
    # Layers that make a model's output keep their name.
    assert {"same", "same_reduce", "block/same"} <= set(names)
    assert [row["layer"] for row in report.rows] == [
        "inner/same",
        "block/shared",
        "block/same",
        "same",
    ]
    macs = {row["layer"]: row["macs_before"] for row in report.rows}
    assert macs["block/shared"] == macs["inner/same"] == 2 * 144


def test_names_that_are_taken_are_not_taken_again():
    inputs = keras.Input((32,))
    x = L.Dense(32, name="a")(L.Dense(2, name="a_reduce")(inputs))
    x = L.Dense(32, name="a_expand")(x)
    model = keras.Model(inputs, L.Dense(2)(L.Dense(32, name="b")(x)))
    smaller, _ = factorize(model, rank=1, filters="^a/|^b/")
    names = {layer.name for layer in smaller.layers}
    assert {"a_reduce_1", "a_expand_1", "a_reduce", "b_expand"} <= names


def test_outputs_keep_their_names_and_compile_arguments():
    inputs = keras.Input((32,))
    sides = [L.Dense(32, name=name)(inputs) for name in ("left", "right")]
    model = keras.Model(inputs, sides)
    losses = {"left": "mse", "right": "mse"}
    model.compile("adam", losses, metrics={"right": ["mae"]}, run_eagerly=True)
    smaller, _ = factorize(model, rank=2)
    assert smaller.output_names == model.output_names == ["left", "right"]
    assert smaller.compiled
    assert type(smaller.optimizer) is keras.optimizers.Adam
    y = dict.fromkeys(("left", "right"), np.ones((4, 32)))
    found = smaller.fit(np.ones((4, 32)), y, verbose=0).history
    assert "right_mae" in found


def test_policies_flags_and_penalties_are_kept():
    model = dense(
        dtype="mixed_float16",
        activity_regularizer=keras.regularizers.L2(0.1),
        kernel_regularizer="l1",
        activation="tanh",
    )
    model.layers[0].trainable = False
    smaller, _ = factorize(model, rank=4)
    reduce, expand = smaller.layers
    assert {f.dtype_policy.name for f in smaller.layers} == {"mixed_float16"}
    assert not smaller.trainable_variables
    assert reduce.activity_regularizer is None
    assert expand.activity_regularizer is not None
    assert reduce.kernel_regularizer is not None and reduce.bias is None
    assert expand.activation is keras.activations.tanh
    assert reduce.activation is keras.activations.linear


def test_layers_inside_layers_stay_low_rank_and_are_exported(made, tmp_path):
    model, x = made["attention"]
    smaller, report = factorize(model, rank=2)
    became = {row["layer"]: row["became"] for row in report.rows}
    assert became["attention/query"] == "LowRankEinsumDense"
    assert became["block/up"] == became["times/inner"] == "LowRankDense"
    assert became["out"] == "2 layers"
    rows = {row["layer"]: row for row in report.rows}
    assert rows["attention/query"]["macs_before"] == 5 * 12 * 12
    assert rows["times/inner"]["macs_before"] == 5 * 12 * 12
    assert rows["block/up"]["macs_before"] is None
    ks.export(smaller, tmp_path / "m.h5")
    for load in (ks.load_model, keras.models.load_model):
        loaded = load(tmp_path / "m.h5")
        assert low_rank_paths(loaded) == low_rank_paths(smaller)
        for a, b in zip(
            models.outputs(loaded, x), models.outputs(smaller, x), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_models_of_a_user_get_low_rank_layers_in_a_copy(made, tmp_path):
    model, x = made["own"]
    smaller, report = factorize(model, budget=0.6)
    assert type(smaller) is type(model) and low_rank_paths(smaller)
    assert not low_rank_paths(model)
    assert smaller.count_params() <= 0.6 * model.count_params()
    assert "macs_before" not in report.totals
    with pytest.raises(UnsupportedModelError, match="Received: 'own'"):
        to_stock(smaller)
    ks.export(smaller, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    assert_close(models.outputs(loaded, x), models.outputs(smaller, x))


@pytest.mark.parametrize(
    "budget",
    [0.5, {"parameters": 5_000}, {"bytes": 0.6}, {"flops": 0.4}],
    ids=str,
)
def test_budgets_are_kept(made, budget):
    model, _ = made["convolutions"]
    smaller, report = factorize(model, budget=budget)
    ((name, value),) = ks.low_rank.budget.get(budget).items()
    sizes = [
        {
            "parameters": each.count_params(),
            "bytes": 4 * each.count_params(),
            "flops": 2 * sum(count_macs(each).values()),
        }[name]
        for each in (model, smaller)
    ]
    limit = value if isinstance(value, int) else value * sizes[0]
    assert 0.85 * limit <= sizes[1] <= limit
    assert report.rows


def test_flops_are_counted_where_they_can_be(made):
    _, report = factorize(made["attention"][0], budget={"flops": 0.8})
    reasons = {item["path"]: item["reason"] for item in report.skipped}
    assert "FLOPs are not known" in reasons["block/up"]
    with pytest.raises(SqueezeError, match="parameters or bytes"):
        factorize(made["own"][0], budget={"flops": 0.5})


def test_ranks_by_regex_and_filters(made):
    model, _ = made["convolutions"]
    ranks = {"first|second": 2, "left": 0.25}
    _, report = factorize(model, rank=ranks, method="auto", filters="[^e]/k")
    found = {row["layer"]: row["rank"] for row in report.rows}
    assert found["left"] == [3] and set(found) == {"first", "second", "left"}
    reasons = {item["path"]: item["reason"] for item in report.skipped}
    assert reasons["one"] == "not matched by `filters`"
    assert "not matched by a regex of `rank`" in reasons["right"]
    _, by_layer = factorize(model, rank=2, filters=lambda x: x.name == "left")
    assert [row["layer"] for row in by_layer.rows] == ["left"]


def test_what_gains_too_little_is_left_and_named():
    model = dense(4, 4)
    smaller, report = factorize(model, rank=100)
    assert not report.rows and smaller.count_params() == 20
    assert "takes 32 parameters instead of 16" in report.skipped[0]["reason"]
    assert not factorize(dense(), rank=12, min_saving=0.5)[1].rows
    assert factorize(dense(), rank=12, min_saving=0.2)[1].rows


def test_what_is_factorized_already_is_left():
    model = keras.Sequential(
        [keras.Input((32,)), L.Dense(32, name="a"), L.Dense(32, name="b")]
    )
    whole = models.at_full_rank(model)
    whole.add(L.Dense(32, name="c"))
    smaller, report = factorize(whole, rank=3)
    assert [row["layer"] for row in report.rows] == ["c"]
    assert {s["reason"] for s in report.skipped} == {"already factorized"}
    assert not low_rank_paths(smaller)


def test_layers_shared_with_another_model_stay_as_they_are_there():
    layer = L.Dense(32, name="shared")
    first = keras.Sequential([keras.Input((32,)), layer])
    other = keras.Sequential([keras.Input((32,)), layer, L.Dense(2)])
    factorize(first, rank=2)
    assert type(layer) is L.Dense and other.layers[0] is layer


def test_layers_shared_by_two_models_inside_are_named():
    layer = L.Dense(32, name="shared")
    inside = [
        keras.Sequential([keras.Input((32,)), layer], name=name)
        for name in "ab"
    ]
    inputs = keras.Input((32,))
    model = keras.Model(inputs, inside[1](inside[0](inputs)))
    with pytest.raises(UnsupportedModelError, match=r"share \['a/shared'\]"):
        factorize(model, rank=2)


def test_the_result_needs_nothing_but_keras(made, tmp_path):
    expected = {}
    for kind in ("convolutions", "masked", "nested"):
        model, x = made[kind]
        smaller, report = factorize(model, energy=0.7)
        assert report.rows and not low_rank_paths(smaller)
        smaller.save(tmp_path / f"{kind}.keras")
        x = x if isinstance(x, list) else [x]
        np.savez(tmp_path / f"{kind}.npz", *x)
        expected[kind] = models.outputs(smaller, x if len(x) > 1 else x[0])
    code = f"""
import sys, keras, numpy as np
for kind in {sorted(expected)}:
    model = keras.models.load_model({str(tmp_path)!r} + f"/{{kind}}.keras")
    x = list(np.load({str(tmp_path)!r} + f"/{{kind}}.npz").values())
    y = keras.tree.flatten(model(x if len(x) > 1 else x[0]))
    np.savez({str(tmp_path)!r} + f"/{{kind}}-out.npz", *[v.numpy() for v in y])
assert not [name for name in sys.modules if name.startswith("keras_squeeze")]
"""
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    for kind, arrays in expected.items():
        found = np.load(tmp_path / f"{kind}-out.npz").values()
        for a, b in zip(found, arrays, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 2, "energy": 0.9}, "one of `rank`, `energy` and `budget`"),
        ({"energy": 0.0}, r"\(0, 1\]"),
        ({"energy": 1.5}, r"\(0, 1\]"),
        ({"rank": 0}, "at least 1"),
        ({"rank": "unknown"}, "unknown"),
        ({"rank": {"(": 2}}, "regexes"),
        ({"budget": 0.001}, "at least .* parameters"),
        ({"budget": {"speed": 2}}, "budget"),
        ({"method": "lu"}, "lu"),
        ({"min_saving": 1.0}, "min_saving"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(SqueezeError, match=message):
        factorize(dense(), **arguments)


def test_bad_models_are_named():
    with pytest.raises(UnbuiltModelError):
        factorize(keras.Sequential([L.Dense(3)]))
    with pytest.raises(NoKernelMatchedError, match="candidates are: hidden"):
        factorize(dense(), rank=2, filters="nothing")
    model = dense()
    model.layers[0].kernel.assign(np.full((32, 32), np.nan))
    with pytest.raises(NonFiniteError, match="hidden"):
        factorize(model, rank=2)
