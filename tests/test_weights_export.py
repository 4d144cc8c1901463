"""Files of Keras become artifacts without their model being built."""

import json
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze import artifact
from keras_squeeze.bridges.exporting import can_export_file, export_file
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    ModelMismatchError,
    SqueezeError,
    UnsafeArtifactError,
    UnsupportedModelError,
)
from tests import models

L = keras.layers
KINDS = ["functional", "shared", "subclassed", "normalization"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Models by kind, with a folder of their files."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        model, x = models.make(kind)
        model.save(folder / "m.keras")
        model.save_weights(folder / "m.weights.h5")
        largest = max(v.value.numpy().nbytes for v in model.variables)
        index = folder / "s.weights.json"
        model.save_weights(index, max_shard_size=largest / 2**30)
        found[kind] = model, x, folder
    return found


def predictions(model, x):
    return keras.tree.flatten(model.predict(x, verbose=0))


def assert_same_predictions(first, second, x):
    for a, b in zip(predictions(first, x), predictions(second, x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_keras_file_loads_as_keras_loads_it(saved, tmp_path, kind):
    model, x, folder = saved[kind]
    ks.export(folder / "m.keras", tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    assert type(loaded) is type(model)
    expected = keras.models.load_model(folder / "m.keras")
    assert_same_predictions(loaded, expected, x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["m.weights.h5", "s.weights.json"])
def test_weights_load_into_a_live_model(saved, tmp_path, kind, name):
    model, x, folder = saved[kind]
    report = ks.export(folder / name, tmp_path / "m.h5")
    other, _ = models.make(kind)
    for variable in other.trainable_variables:
        variable.assign(variable * 0 + 0.5)
    ks.load_weights(other, tmp_path / "m.h5")
    assert_same_predictions(model, other, x)
    assert len(report.rows) == len(artifact.read(tmp_path / "m.h5").tensors)


def test_the_stock_door_opens_it_too(saved, tmp_path):
    model, x, folder = saved["functional"]
    ks.export(folder / "m.keras", tmp_path / "m.h5")
    loaded = keras.models.load_model(tmp_path / "m.h5")
    assert_same_predictions(loaded, model, x)


def test_the_loaded_model_is_exported_again(saved, tmp_path):
    folder = saved["functional"][2]
    ks.export(folder / "m.keras", tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    ks.export(loaded, tmp_path / "m.h5", bits=8)
    assert ks.load_model(tmp_path / "m.h5").count_params()


def test_neither_keras_nor_tensorflow_is_imported(saved, tmp_path):
    folder = saved["functional"][2]
    code = (
        "import sys; from keras_squeeze.cli import main\n"
        "for source in sys.argv[2:]:\n"
        "    assert main(['export', '--quiet', source, sys.argv[1]]) == 0\n"
        "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    names = ("m.weights.h5", "s.weights.json", "m.keras")
    sources = [str(folder / name) for name in names]
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.h5"), *sources],
        capture_output=True,
        text=True,
    )
    assert child.stdout.splitlines()[-1] == "[]", child.stderr


def test_shards_and_the_whole_give_the_same_tensors(saved, tmp_path):
    folder = saved["functional"][2]
    assert len(list(folder.glob("s_*.weights.h5"))) > 1
    found = []
    for name in ("m.weights.h5", "s.weights.json", "m.keras"):
        export_file(folder / name, tmp_path / "m.h5")
        decoded = artifact.read(tmp_path / "m.h5").decode_all()
        found.append({k: v.tobytes() for k, v in decoded.items()})
    assert found[0] == found[1] == found[2]


def test_training_leaves_no_trace(tmp_path):
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "m.keras")
    export_file(tmp_path / "m.keras", tmp_path / "m.h5")
    opened = artifact.read(tmp_path / "m.h5")
    assert [t.shape for t in opened.tensors] == [(3, 2), (2,)]
    assert "adam" not in json.dumps(opened.manifest.model).lower()
    ks.load_weights(model, tmp_path / "m.h5")
    export_file(
        tmp_path / "m.keras", tmp_path / "k.h5", keep=["compile_config"]
    )
    loaded = ks.load_model(tmp_path / "k.h5")
    assert isinstance(loaded.optimizer, keras.optimizers.Adam)


def test_bfloat16_and_compressed_archives(tmp_path):
    model = keras.Sequential([keras.Input((3,)), L.Dense(2, dtype="bfloat16")])
    model.save(tmp_path / "m.keras")
    with (
        zipfile.ZipFile(tmp_path / "m.keras") as source,
        zipfile.ZipFile(tmp_path / "z.keras", "w", zipfile.ZIP_LZMA) as packed,
    ):
        for member in source.infolist():
            packed.writestr(member.filename, source.read(member))
    export_file(tmp_path / "z.keras", tmp_path / "m.h5")
    opened = artifact.read(tmp_path / "m.h5")
    assert {t.dtype for t in opened.tensors} == {"bfloat16"}
    loaded = ks.load_model(tmp_path / "m.h5")
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()


def test_custom_classes_need_to_be_named(tmp_path):
    class Double(L.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=(), initializer="ones")

        def call(self, x):
            return 2 * x * self.factor

    model = keras.Sequential([keras.Input((3,)), Double()])
    model.layers[0].factor.assign(3.0)
    model.save(tmp_path / "m.keras")
    export_file(tmp_path / "m.keras", tmp_path / "m.h5")
    with pytest.raises(UnsafeArtifactError, match="Double"):
        ks.load_model(tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5", {"Double": Double})
    assert float(loaded.layers[0].factor) == 3.0


def test_load_weights_of_another_model_changes_nothing(saved, tmp_path):
    export_file(saved["functional"][2] / "m.weights.h5", tmp_path / "m.h5")
    other = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    before = other.get_weights()
    with pytest.raises(ModelMismatchError, match="vars/0"):
        ks.load_weights(other, tmp_path / "m.h5")
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ModelMismatchError, match="load_weights"):
        ks.load_model(tmp_path / "m.h5")


def test_what_only_the_live_model_can_read_is_built(tmp_path):
    lookup = L.StringLookup()
    lookup.adapt(np.array(["a", "b"]))
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, L.Embedding(4, 2)(lookup(inputs)))
    model.save(tmp_path / "m.keras")
    assert not can_export_file(tmp_path / "m.keras")
    with pytest.raises(UnsupportedModelError, match="assets"):
        export_file(tmp_path / "m.keras", tmp_path / "m.h5")
    plain = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    plain.save(tmp_path / "p.h5")
    ks.export(tmp_path / "p.h5", tmp_path / "m.h5")
    assert ks.load_model(tmp_path / "m.h5").count_params() == 8


def test_arguments_that_need_a_model(saved, tmp_path):
    source = saved["functional"][2] / "m.keras"
    with pytest.raises(SqueezeError, match="live model"):
        ks.export(source, tmp_path / "m.h5", bits=4)
    assert not list(tmp_path.iterdir())


def test_files_of_earlier_keras_are_refused_by_name(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file["dense/dense/kernel:0"] = np.ones((2, 2))
    with pytest.raises(UnsupportedModelError, match="earlier Keras"):
        export_file(tmp_path / "m.weights.h5", tmp_path / "m.h5")


@pytest.mark.parametrize(
    ("index", "error"),
    [
        ("{", CorruptArtifactError),
        ("[]", CorruptArtifactError),
        ('{"weight_map": [1]}', CorruptArtifactError),
        ('{"weight_map": {"/a/vars": "no.weights.h5"}}', CorruptArtifactError),
        ('{"weight_map": {"/a/vars": "../m.weights.h5"}}', UnsafeArtifactError),
        ('{"weight_map": {"/a/vars": "/etc/passwd"}}', UnsafeArtifactError),
        ('{"weight_map": {"/a/vars": [7]}}', UnsafeArtifactError),
        ('{"weight_map": {"/b/vars": "m.weights.h5"}}', CorruptArtifactError),
    ],
)
def test_indices_that_lie(tmp_path, index, error):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/a/vars/0"] = np.ones(3)
    (tmp_path / "s.weights.json").write_text(index)
    with pytest.raises(error, match="Received"):
        export_file(tmp_path / "s.weights.json", tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_links_out_of_the_file_are_refused(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/a/vars/0"] = np.ones(3)
        file["layers/a/vars/1"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(UnsafeArtifactError, match="ExternalLink"):
        export_file(tmp_path / "m.weights.h5", tmp_path / "m.h5")


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize("content", ["[]", "{", "7"])
def test_damaged_archives(saved, tmp_path, name, content):
    source = saved["functional"][2] / "m.keras"
    with (
        zipfile.ZipFile(source) as archive,
        zipfile.ZipFile(tmp_path / "m.keras", "w") as damaged,
    ):
        for member in archive.infolist():
            kept = archive.read(member)
            damaged.writestr(
                member.filename, content if member.filename == name else kept
            )
    with pytest.raises(ArtifactError, match="JSON object"):
        export_file(tmp_path / "m.keras", tmp_path / "m.h5")
