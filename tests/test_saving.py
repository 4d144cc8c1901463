"""Every kind of model goes into a file and comes back bit-equal."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.artifact.reading import equal_bits
from keras_squeeze.artifact.stream import pack_stream_start
from keras_squeeze.errors import (
    BaseMismatchError,
    CorruptArtifactError,
    DecryptionError,
    ModelMismatchError,
    NoKernelMatchedError,
    NonFiniteError,
    SignatureError,
    SqueezeError,
    UnbuiltModelError,
    UnsafeArtifactError,
    UnsupportedModelError,
)
from keras_squeeze.saving import loading
from keras_squeeze.surgery.layer_tree import named_variables, to_numpy
from tests import models

L = keras.layers


def state(model):
    return {
        path: to_numpy(variable)
        for path, variable in named_variables(model).items()
    }


def assert_equal_state(first, second):
    first, second = state(first), state(second)
    assert len(first) == len(second)
    for a, b in zip(first.values(), second.values(), strict=True):
        assert equal_bits(a, b)


@pytest.mark.parametrize("kind", models.ALL)
def test_lossless_round_trip(tmp_path, kind):
    model, x = models.make(kind)
    before = {path: array.copy() for path, array in state(model).items()}
    report = ks.export(model, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    assert type(loaded) is type(model)
    assert_equal_state(model, loaded)
    expected = model.predict(x, verbose=0)
    for a, b in zip(
        keras.tree.flatten(expected),
        keras.tree.flatten(loaded.predict(x, verbose=0)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert {row["tensor"] for row in report.rows} == set(before)
    assert all(equal_bits(before[p], a) for p, a in state(model).items()), (
        "the model that was exported has changed"
    )


def test_nan_and_negative_zero_survive(tmp_path):
    model = keras.Sequential([keras.Input((3,)), L.Dense(4)])
    kernel = np.full((3, 4), -0.0, "float32")
    kernel[0] = [np.nan, np.inf, -np.inf, 1e-42]
    kernel.view("uint32")[1, 0] = 0x7FC12345
    model.layers[0].kernel.assign(kernel)
    ks.export(model, tmp_path / "m.h5")
    loaded = to_numpy(ks.load_model(tmp_path / "m.h5").layers[0]._kernel)
    assert np.array_equal(loaded.view("uint32"), kernel.view("uint32"))


@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float16"]
)
def test_dtype_policies(tmp_path, policy):
    layers = [
        keras.Input((6,)),
        L.Dense(5, dtype=policy),
        L.BatchNormalization(dtype=policy),
        L.Dense(2, dtype=policy),
    ]
    model = keras.Sequential(layers)
    ks.export(model, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    assert loaded.layers[0].dtype_policy.name == policy
    assert_equal_state(model, loaded)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_models_quantized_by_keras(tmp_path, mode):
    model = keras.Sequential([keras.Input((32,)), L.Dense(16), L.Dense(8)])
    models.randomize(model)
    model.quantize(mode)
    x = np.random.default_rng(0).normal(size=(4, 32)).astype("float32")
    ks.export(model, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    assert_equal_state(model, loaded)
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), loaded.predict(x, verbose=0)
    )


@pytest.mark.parametrize("kind", ["sequential", "nested", "attention"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_quantized_layers_round_trip(tmp_path, kind, bits):
    model, x = models.make(kind)
    small, _ = ks.quantize(model, bits=bits)
    ks.export(small, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    assert [type(layer) for layer in loaded.layers] == [
        type(layer) for layer in small.layers
    ]
    assert_equal_state(small, loaded)
    np.testing.assert_array_equal(
        small.predict(x, verbose=0), loaded.predict(x, verbose=0)
    )


def test_quantized_layers_inside_a_subclassed_model(tmp_path):
    model, x = models.make("subclassed")
    small, _ = ks.quantize(model, bits=4)
    ks.export(small, tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    assert type(loaded.first) is ks.layers.QuantizedDense
    np.testing.assert_array_equal(small(x), loaded(x))


def test_packed_codes_are_coded_as_codes(tmp_path):
    model = keras.Sequential([keras.Input((200,)), L.Dense(200)])
    kernel = np.random.default_rng(0).normal(size=(200, 200))
    kernel[np.abs(kernel) < 1.3] = 0
    model.layers[0].kernel.assign(kernel)
    small, _ = ks.quantize(model, bits=4)
    report = ks.export(small, tmp_path / "m.h5")
    row = next(row for row in report.rows if row["codec"].startswith("packed"))
    assert row["sparsity"] == pytest.approx(0.8, abs=0.03)
    assert row["bits_per_weight"] < 1.6


def test_quantizing_in_the_file_only(tmp_path):
    model, x = models.make("sequential")
    report = ks.export(model, tmp_path / "m.h5", bits=8)
    loaded = ks.load_model(tmp_path / "m.h5")
    assert type(loaded.layers[0]) is L.Conv2D
    coded = [row for row in report.rows if row["codec"].startswith("8-bit")]
    assert len(coded) == 2
    small, _ = ks.quantize(model, bits=8)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), small.predict(x, verbose=0), atol=1e-6
    )
    np.testing.assert_array_equal(
        to_numpy(loaded.layers[0].bias), to_numpy(model.layers[0].bias)
    )


def test_filters_choose_what_is_quantized_in_the_file(tmp_path):
    model, _ = models.make("sequential")
    report = ks.export(model, tmp_path / "m.h5", bits=4, filters="dense")
    coded = [r["tensor"] for r in report.rows if r["codec"].startswith("4-bit")]
    assert len(coded) == 1
    assert "dense" in coded[0]
    report = ks.export(
        model,
        tmp_path / "m.h5",
        bits=16,
        filters=lambda layer: isinstance(layer, L.Conv2D),
    )
    coded = [r["tensor"] for r in report.rows if "16-bit" in r["codec"]]
    assert len(coded) == 1
    assert "conv2d" in coded[0]


@pytest.mark.parametrize("kind", models.ALL)
def test_a_loaded_model_is_exported_again(tmp_path, kind):
    model, _ = models.make(kind)
    ks.export(model, tmp_path / "a.h5")
    loaded = ks.load_model(tmp_path / "a.h5")
    ks.export(loaded, tmp_path / "b.h5")
    first, second = (
        (tmp_path / name).read_bytes() for name in ("a.h5", "b.h5")
    )
    # Keras numbers the inner layers of a subclassed model anew each time.
    assert first == second or kind == "subclassed"
    assert_equal_state(model, ks.load_model(tmp_path / "b.h5"))


def test_shared_variables_are_stored_once(tmp_path):
    model, _ = models.make("shared")
    report = ks.export(model, tmp_path / "m.h5")
    assert [row["tensor"] for row in report.rows] == [
        "shared/kernel",
        "shared/bias",
    ]


def test_validation_is_measured_from_the_file(tmp_path):
    model, x = models.make("sequential")
    y = np.array([0, 1, 2])
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    report = ks.export(model, tmp_path / "m.h5", validate=(x, y))
    assert report.totals["accuracy_before"] == report.totals["accuracy_after"]
    assert report.totals["loss_after"] == pytest.approx(
        model.evaluate(x, y, verbose=0)[0], rel=1e-5
    )
    coarse = ks.export(
        model,
        tmp_path / "m.h5",
        bits=2,
        validate=lambda m: float(np.sum(m.predict(x, verbose=0)[:, 0])),
    )
    totals = coarse.totals
    assert totals["validation_before"] != totals["validation_after"]
    json.dumps(coarse.to_dict())


def test_validation_needs_a_compiled_model(tmp_path):
    model, x = models.make("sequential")
    with pytest.raises(SqueezeError, match="compiled"):
        ks.export(model, tmp_path / "m.h5", validate=(x, np.zeros(3)))


def test_unregistered_classes_are_loaded_through_custom_objects(tmp_path):
    model = models.Unregistered()
    x = np.ones((2, 6), "float32")
    model(x)
    ks.export(model, tmp_path / "m.h5")
    with pytest.raises(UnsafeArtifactError, match="Unregistered"):
        ks.load_model(tmp_path / "m.h5")
    loaded = ks.load_model(
        tmp_path / "m.h5", {"Unregistered": models.Unregistered}
    )
    np.testing.assert_array_equal(model(x), loaded(x))


class WithoutConfig(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


def test_models_without_config_load_by_weights(tmp_path):
    model = WithoutConfig(L.Dense(3))
    x = np.ones((2, 6), "float32")
    model(x)
    report = ks.export(model, tmp_path / "m.h5")
    assert "load_weights" in report.skipped[0]["reason"]
    other = WithoutConfig(L.Dense(3))
    other(x)
    with pytest.raises(SqueezeError, match=r"load_weights|custom_objects"):
        ks.load_model(tmp_path / "m.h5")
    ks.load_weights(other, tmp_path / "m.h5")
    np.testing.assert_array_equal(model(x), other(x))


def test_load_weights_matches_by_order_where_numbers_differ(tmp_path):
    model, _ = models.make("sequential")
    ks.export(model, tmp_path / "m.h5")
    other = models.sequential()
    assert set(named_variables(other)) != set(named_variables(model))
    report = ks.load_weights(other, tmp_path / "m.h5")
    assert len(report.rows) == len(named_variables(model))
    assert_equal_state(model, other)


def test_load_weights_into_plain_layers_of_a_quantized_file(tmp_path):
    model, x = models.make("sequential")
    small, _ = ks.quantize(model, bits=4)
    ks.export(small, tmp_path / "m.h5")
    other = models.sequential()
    ks.load_weights(other, tmp_path / "m.h5")
    np.testing.assert_array_equal(
        small.predict(x, verbose=0), other.predict(x, verbose=0)
    )


def test_load_weights_names_both_shapes_and_changes_nothing(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.Dense(4), L.Dense(3)])
    ks.export(model, tmp_path / "m.h5")
    other = keras.Sequential([keras.Input((6,)), L.Dense(4), L.Dense(5)])
    before = state(other)
    with pytest.raises(ModelMismatchError) as caught:
        ks.load_weights(other, tmp_path / "m.h5")
    assert "(4, 5)" in str(caught.value)
    assert "(4, 3)" in str(caught.value)
    assert all(equal_bits(before[p], a) for p, a in state(other).items())


def test_load_weights_of_another_structure_changes_nothing(tmp_path):
    model, _ = models.make("sequential")
    small, _ = ks.quantize(model, bits=4)
    ks.export(small, tmp_path / "m.h5")
    other = models.functional()
    with pytest.raises(ModelMismatchError, match="Received"):
        ks.load_weights(other, tmp_path / "m.h5")
    more = keras.Sequential([*models.sequential().layers, L.Dense(2)])
    more.build((None, 8, 8, 1))
    classes = [type(layer) for layer in more.layers]
    before = state(more)
    with pytest.raises(ModelMismatchError, match="without one"):
        ks.load_weights(more, tmp_path / "m.h5")
    assert [type(layer) for layer in more.layers] == classes
    assert all(equal_bits(before[p], a) for p, a in state(more).items())


def test_load_weights_of_another_dtype(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.Dense(4)])
    ks.export(model, tmp_path / "m.h5")
    other = keras.Sequential([keras.Input((6,)), L.Dense(4, dtype="bfloat16")])
    with pytest.raises(ModelMismatchError, match="dtype bfloat16"):
        ks.load_weights(other, tmp_path / "m.h5")


@pytest.mark.parametrize(
    "specs",
    [
        [{"path": "dense"}],
        [3],
        [{"path": "dense", "class_name": "QuantizedDense", "quantizer": {}}],
        [{"path": "nothing", "class_name": "x", "quantizer": {}}],
        "dense",
    ],
)
def test_damaged_descriptions_of_quantized_layers(tmp_path, specs):
    model = keras.Sequential([keras.Input((6,)), L.Dense(4, name="dense")])
    ks.export(model, tmp_path / "m.h5")
    opened = artifact.read(tmp_path / "m.h5")
    description = {**opened.manifest.model, "quantized_layers": specs}
    artifact.write(
        str(tmp_path / "m.h5"),
        [
            TensorInput.from_values(name, array)
            for name, array in opened.decode_all().items()
        ],
        description,
        keras_version=keras.__version__,
    )
    with pytest.raises(SqueezeError, match="Received"):
        ks.load_model(tmp_path / "m.h5")


def test_unbuilt_models_are_refused(tmp_path):
    with pytest.raises(UnbuiltModelError, match="Received"):
        ks.export(keras.Sequential([L.Dense(2)]), tmp_path / "m.h5")
    with pytest.raises(UnbuiltModelError):
        ks.export(models.Subclassed(), tmp_path / "m.h5")
    with pytest.raises(SqueezeError, match=r"keras\.Model"):
        ks.export("model", tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_bad_arguments_of_export_leave_no_file(tmp_path):
    model, _ = models.make("sequential")
    with pytest.raises(NoKernelMatchedError, match="conv2d"):
        ks.export(model, tmp_path / "m.h5", bits=4, filters="nothing")
    with pytest.raises(SqueezeError, match=r"Received: .*9"):
        ks.export(model, tmp_path / "m.h5", bits=9)
    with pytest.raises(SqueezeError, match="filters"):
        ks.export(model, tmp_path / "m.h5", filters="dense")
    kernel = to_numpy(model.layers[0].kernel).copy()
    kernel[0, 0, 0, 0] = np.nan
    model.layers[0].kernel.assign(kernel)
    with pytest.raises(NonFiniteError, match=r"conv2d.*Received: 1"):
        ks.export(model, tmp_path / "m.h5", bits=4)
    assert not list(tmp_path.iterdir())


def test_adapted_vocabularies_are_refused_by_name(tmp_path):
    lookup = L.StringLookup()
    lookup.adapt(np.array(["a", "b"]))
    model = keras.Sequential(
        [keras.Input((1,), dtype="string"), lookup, L.Embedding(4, 2)]
    )
    with pytest.raises(UnsupportedModelError, match="string_lookup"):
        ks.export(model, tmp_path / "m.h5")


def test_lambda_layers_need_trust(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), L.Lambda(lambda x: x * 2), L.Dense(2)]
    )
    ks.export(model, tmp_path / "m.h5")
    with pytest.raises(UnsafeArtifactError, match="Lambda"):
        ks.load_model(tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5", safe_mode=False)
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(model(x), loaded(x))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_unpack(tmp_path, suffix):
    model, _ = models.make("functional")
    ks.export(model, tmp_path / "m.h5")
    target = tmp_path / f"out{suffix}"
    report = ks.unpack(tmp_path / "m.h5", target)
    assert report.rows[1]["bytes"] == target.stat().st_size
    if suffix == ".keras":
        assert_equal_state(model, keras.models.load_model(target))
    else:
        other = models.functional()
        other.load_weights(target)
        assert_equal_state(model, other)
    with pytest.raises(SqueezeError, match=r"\.onnx"):
        ks.unpack(tmp_path / "m.h5", tmp_path / "m.onnx")


def test_a_fresh_process_predicts_the_same(tmp_path):
    model, x = models.make("attention")
    small, _ = ks.quantize(model, bits=4)
    ks.export(small, tmp_path / "m.h5")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", small.predict(x, verbose=0))
    code = (
        "import sys, numpy as np, keras_squeeze as ks\n"
        "model = ks.load_model(sys.argv[1] + '/m.h5')\n"
        "y = model.predict(np.load(sys.argv[1] + '/x.npy'), verbose=0)\n"
        "assert np.array_equal(y, np.load(sys.argv[1] + '/y.npy'))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_real_models_round_trip(tmp_path, data_folder):
    for name in ("pretrainedResnet.h5", "ad01.h5"):
        path = data_folder / "models" / name
        model = keras.models.load_model(path, compile=False)
        report = ks.export(model, tmp_path / "m.h5")
        assert_equal_state(model, ks.load_model(tmp_path / "m.h5"))
        assert report.totals["ratio"] > 1.1


def test_unpacking_into_a_missing_folder_leaves_nothing(tmp_path):
    model, _ = models.make("functional")
    ks.export(model, tmp_path / "m.h5")
    with pytest.raises(SqueezeError, match="Received"):
        ks.unpack(tmp_path / "m.h5", tmp_path / "missing" / "m.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def forge(source, target):
    """The file with its last tensor undecodable and all digests right."""
    opened = artifact.read(source)
    payload, last = bytearray(opened.payload), opened.tensors[-1]
    payload[last.offset] ^= 0xFF
    manifest = dataclasses.replace(
        opened.manifest,
        tensors=(
            *opened.tensors[:-1],
            dataclasses.replace(last, crc32=zlib.crc32(payload[last.offset :])),
        ),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
    )
    start = pack_stream_start(manifest.to_json(), len(payload))
    size = len(start) + len(payload)
    skeleton = skeleton_start(size, keras.__version__, "tensorflow")
    target.write_bytes(skeleton + start + payload)


@pytest.mark.parametrize("small_bytes", [0, 1 << 26])
def test_a_forged_file_does_not_leave_half_a_model(
    tmp_path, monkeypatch, small_bytes
):
    monkeypatch.setattr(loading, "_SMALL_BYTES", small_bytes)
    model = keras.Sequential([keras.Input((300,)), L.Dense(30), L.Dense(200)])
    model.layers[1].bias.assign(np.random.default_rng(0).normal(size=200))
    ks.export(model, tmp_path / "m.h5")
    forge(tmp_path / "m.h5", tmp_path / "forged.h5")
    other = keras.models.clone_model(model)
    before = {path: array.copy() for path, array in state(other).items()}
    with pytest.raises(CorruptArtifactError, match="bias"):
        ks.load_weights(other, tmp_path / "forged.h5")
    assert all(equal_bits(before[p], a) for p, a in state(other).items())


def test_encrypted_files(tmp_path):
    pytest.importorskip("cryptography")
    model, _ = models.make("functional")
    path, key = tmp_path / "m.h5.enc", bytes(range(32))
    count = {"validate": lambda model: {"count": model.count_params()}}
    report = ks.export(model, path, encryption_key=key, **count)
    assert report.totals["count_before"] == report.totals["count_after"]
    assert_equal_state(model, ks.load_model(path, key=key))
    other = models.functional()
    ks.load_weights(other, path, key=key)
    assert_equal_state(model, other)
    ks.unpack(path, tmp_path / "m.keras", key=key)
    with pytest.raises(DecryptionError, match="key"):
        ks.load_model(path)
    with pytest.raises(DecryptionError, match="another"):
        ks.load_model(path, key=bytes(32))
    with pytest.raises(SqueezeError, match=r"ends in \.h5"):
        ks.export(model, path)


def test_files_that_are_vouched_for(tmp_path):
    model, _ = models.make("functional")
    ks.export(model, tmp_path / "m.h5")
    digest = hashlib.sha256((tmp_path / "m.h5").read_bytes()).hexdigest()
    loaded = ks.load_model(tmp_path / "m.h5", expected_sha256=digest)
    assert_equal_state(model, loaded)
    with pytest.raises(SignatureError, match="SHA-256"):
        ks.load_weights(loaded, tmp_path / "m.h5", expected_sha256="0" * 64)


def test_files_of_what_changed(tmp_path):
    model, _ = models.make("functional")
    base, path = tmp_path / "base.h5", tmp_path / "m.h5"
    ks.export(model, base)
    bias = model.layers[-1].bias
    bias.assign(bias + 1)
    report = ks.export(model, path, base=base)
    assert report.totals["file_bytes"] < os.path.getsize(base)
    assert_equal_state(model, ks.load_model(path, base=base))
    with pytest.raises(BaseMismatchError, match="base"):
        ks.load_model(path)
