import doctest

import keras
import numpy as np
import pytest
from keras import layers

import keras_squeeze as ks
from keras_squeeze import model_summary
from keras_squeeze.errors import SqueezeError, UnbuiltModelError
from keras_squeeze.model_summary import summary
from keras_squeeze.surgery.layer_tree import to_numpy
from tests import models


def masked(model, masks):
    """Multiplies kernels by masks, by the name of the layer."""
    for name, mask in masks.items():
        kernel = model.get_layer(name).kernel
        kernel.assign(keras.ops.convert_to_numpy(kernel) * mask)
    return model


@pytest.fixture(scope="module")
def pruned():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(16, 3, name="channels"),
            layers.BatchNormalization(name="norm"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(32, name="half"),
            layers.Dense(24, name="random"),
            layers.Dense(5, name="head"),
        ]
    )
    models.randomize(model)
    rng = np.random.default_rng(0)
    return masked(
        model,
        {
            "channels": np.arange(16) % 4 != 0,
            "half": two_of_four(rng, 16, 32),
            "random": rng.random((32, 24)) < 0.2,
        },
    )


def two_of_four(rng, inputs, units):
    ranks = rng.random((inputs // 4, 4, units)).argsort(axis=1)
    return (ranks.argsort(axis=1) >= 2).reshape(inputs, units)


def rows_of(report):
    return {f"{row['layer']}/{row['weight']}": row for row in report.rows}


def test_every_weight_has_a_row_with_its_zeros(pruned):
    report = summary(pruned, coded=False)
    rows = rows_of(report)
    assert [row["layer"] for row in report.rows] == (
        ["channels"] * 2
        + ["norm"] * 4
        + ["half"] * 2
        + ["random"] * 2
        + ["head"] * 2
    )
    assert rows["channels/kernel"] == {
        "layer": "channels",
        "weight": "kernel",
        "shape": [3, 3, 4, 16],
        "parameters": 576,
        "sparsity": 0.25,
        "nonzeros": 432,
        "pattern": "channel",
        "bits": 32,
        "bytes": 2304,
    }
    assert rows["half/kernel"]["pattern"] == "2:4"
    assert rows["half/kernel"]["sparsity"] == 0.5
    assert rows["random/kernel"]["pattern"] == "unstructured"
    assert rows["head/kernel"]["pattern"] == "dense"
    assert rows["norm/gamma"]["pattern"] is None
    left = np.count_nonzero(to_numpy(pruned.get_layer("random").kernel))
    assert rows["random/kernel"]["nonzeros"] == left


def test_totals_are_sums_and_the_file_is_the_one_export_writes(
    pruned, tmp_path
):
    report = summary(pruned)
    totals = report.totals
    assert totals["parameters"] == pruned.count_params()
    assert totals["bytes"] == 4 * pruned.count_params()
    exported = ks.export(pruned, tmp_path / "m.h5")
    assert totals["file_bytes"] == exported.totals["file_bytes"]
    assert totals["coded_bytes"] == exported.totals["payload_bytes"]
    stored = {row["tensor"]: row["bytes"] for row in exported.rows}
    for name, row in rows_of(report).items():
        assert row["coded_bytes"] == stored[name]
    names = ("channels", "half", "random", "head")
    kernels = [to_numpy(pruned.get_layer(name).kernel) for name in names]
    left = sum(np.count_nonzero(kernel) for kernel in kernels)
    size = sum(kernel.size for kernel in kernels)
    assert totals["kernel_sparsity"] == pytest.approx(1 - left / size, abs=1e-4)
    assert "coded bytes" in str(report)
    assert "coded_bytes" not in summary(pruned, coded=False).columns


def test_a_quantized_kernel_is_one_row_of_its_bits(pruned):
    small, _ = ks.quantize(pruned, bits=4)
    report = summary(small)
    row = rows_of(report)["random/kernel"]
    assert row["bits"] == 4
    assert row["shape"] == [32, 24]
    assert row["parameters"] == 768
    # Two codes a byte, and a float32 scale a channel.
    assert row["bytes"] == 768 // 2 + 4 * 24
    assert row["nonzeros"] == np.count_nonzero(
        small.get_layer("random").quantized_kernel().codes
    )
    assert row["coded_bytes"] < row["bytes"]
    assert report.totals["parameters"] == pruned.count_params()
    assert rows_of(report)["random/bias"]["bits"] == 32


@pytest.mark.parametrize("kind", sorted(models.ALL))
def test_models_of_every_kind(kind):
    model, _ = models.make(kind)
    before = [w.copy() for w in model.get_weights()]
    report = summary(model, profile="fast")
    assert report.totals["parameters"] == model.count_params()
    assert report.totals["coded_bytes"] < report.totals["file_bytes"]
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_half_precision_and_seeds():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dropout(0.5),
            layers.Dense(3, dtype="bfloat16", name="half"),
        ]
    )
    report = summary(model)
    assert [row["weight"] for row in report.rows] == ["kernel", "bias"]
    assert report.rows[0]["bits"] == 16
    assert report.rows[0]["bytes"] == 36


def test_bad_input():
    with pytest.raises(UnbuiltModelError, match="built"):
        summary(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(SqueezeError, match="Received"):
        summary(models.shared(), profile="tiny")


def test_doctest():
    assert doctest.testmod(model_summary).failed == 0
