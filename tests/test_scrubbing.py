"""Files hold what rebuilds a model; what else they could hold is left out."""

import datetime
import getpass
import json
import os
import socket
import sys

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.artifact.scrubbing import KEEP, check_keep, scrub_config
from keras_squeeze.errors import SqueezeError, UnsupportedModelError
from keras_squeeze.saving.model_config import build_model
from tests import models

L = keras.layers


@keras.saving.register_keras_serializable(package="scrubbing")
class WithFolder(L.Layer):
    """Remembers a place, as layers that read files do."""

    def __init__(self, folder=None, **kwargs):
        super().__init__(**kwargs)
        self.folder = folder

    def call(self, inputs):
        return inputs

    def get_config(self):
        return {**super().get_config(), "folder": self.folder}


@keras.saving.register_keras_serializable(package="scrubbing")
def activation(x):
    return keras.ops.tanh(x)


def model_with(*layers):
    inner = keras.Sequential([keras.Input((4,)), *layers, L.Dense(2)])
    inner.compile("adam", "mse")
    model = keras.Sequential([keras.Input((4,)), inner, L.Dropout(0.5, seed=7)])
    model.compile(keras.optimizers.AdamW(0.0173), "mae", metrics=["mse"])
    return model


def config_of(model):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def test_training_configuration_is_left_out_of_models_in_models():
    config = config_of(model_with())
    assert str(config).count("compile_config") == 2
    scrubbed = scrub_config(config)
    text = str(scrubbed)
    assert "compile_config" not in text and "AdamW" not in text
    assert "'seed': 7" in text
    assert str(config).count("compile_config") == 2


def test_what_is_kept_is_kept_by_name_only():
    config = config_of(model_with(WithFolder("/data/images")))
    assert scrub_config(config, KEEP) == config
    kept = scrub_config(config, ("compile_config", "paths"))
    assert "AdamW" in str(kept) and __name__ not in str(kept)
    kept = scrub_config(config, ("modules", "paths"))
    assert __name__ in str(kept) and "AdamW" not in str(kept)


def test_modules_of_own_classes_are_left_out_and_not_needed():
    own = L.Dense(3, activation=activation)
    model = model_with(WithFolder(), own, L.Activation(activation))
    x = np.ones((2, 4), "float32")
    expected = model.predict(x, verbose=0)
    scrubbed = scrub_config(config_of(model))
    assert __name__ not in str(scrubbed)
    again = build_model({"class_name": "m", "config": scrubbed}, "m.h5")
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)


@pytest.mark.parametrize("kind", [k for k in models.ALL if k != "subclassed"])
def test_configs_of_keras_own_classes_stay_whole(kind):
    config = config_of(models.make(kind)[0])
    assert scrub_config(config, ("compile_config",)) == config


@pytest.mark.parametrize(
    "text",
    [
        "/home/someone/data",
        "/tmp",
        "~/data",
        "~someone/data",
        "C:\\Users\\someone",
        "D:/data",
        "\\\\server\\share",
        "file:///x",
        "https://host/x",
        "gs://bucket/x",
    ],
)
def test_paths_and_addresses_are_refused_where_they_stand(text):
    config = config_of(model_with(WithFolder(text)))
    with pytest.raises(UnsupportedModelError, match=r"layers\[1\].*folder"):
        scrub_config(config)
    assert scrub_config(config, ("paths",)) is not config


@pytest.mark.parametrize(
    "text", ["", "/", "a/b", "ab,bc->ac", "w/o", "relu", "//", "1:2", "x: y"]
)
def test_other_strings_are_no_paths(text):
    scrub_config(config_of(model_with(WithFolder(text))))


def test_words_of_a_vocabulary_are_no_paths():
    words = L.StringLookup(vocabulary=["/home", "http://x"], oov_token="~/x")
    config = config_of(words)
    scrub_config(config)
    config["config"]["vocabulary"] = "/home/someone/words.txt"
    with pytest.raises(UnsupportedModelError, match="vocabulary"):
        scrub_config(config)


@pytest.mark.parametrize("keep", ["paths", ["optimizer"], ("paths", "dates")])
def test_unknown_names_are_refused(keep):
    with pytest.raises(SqueezeError, match="Expected `keep` to list"):
        check_keep(keep)
    with pytest.raises(SqueezeError, match="Expected `keep` to list"):
        scrub_config({}, keep)


def test_a_file_tells_nothing_of_where_and_when_it_was_made(tmp_path):
    folder = tmp_path / "a folder of somebody"
    folder.mkdir()
    model = model_with()
    x = np.ones((4, 4), "float32")
    model.fit(x, x[:, :2], verbose=0)
    ks.export(model, folder / "m.h5")
    content = (folder / "m.h5").read_bytes()
    opened = ks.artifact.read(folder / "m.h5")
    shown = content + opened.manifest.to_json()
    year = str(datetime.datetime.now(datetime.UTC).year)
    for secret in (
        os.fspath(tmp_path),
        folder.name,
        socket.gethostname(),
        os.path.expanduser("~"),
        sys.prefix,
        f"{year}-",
        "AdamW",
        "0.0173",
        "momentum",
        "learning_rate",
        "compile_config",
    ):
        assert secret.encode() not in shown, secret
    if len(getpass.getuser()) > 4:
        assert getpass.getuser().encode() not in shown
    assert len(opened.tensors) == len(model.layers[0].weights) + 1


def test_a_model_that_is_kept_compiled_comes_back_compiled(tmp_path):
    path = tmp_path / "m.h5"
    model = model_with()
    ks.export(model, path, keep=("compile_config",))
    assert b"AdamW" in ks.artifact.read(path).manifest.to_json()
    loaded = ks.load_model(path)
    assert type(loaded.optimizer) is keras.optimizers.AdamW
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.0173)
    ks.export(model, path)
    assert not ks.load_model(path).compiled


def test_export_refuses_paths_and_leaves_the_target(tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(b"as it was")
    model = model_with(WithFolder("/data/images"))
    with pytest.raises(UnsupportedModelError, match="/data/images"):
        ks.export(model, path)
    with pytest.raises(SqueezeError, match="Expected `keep`"):
        ks.export(model, path, keep=("everything",))
    assert path.read_bytes() == b"as it was"
    ks.export(model, path, keep=("paths",))
    inner = ks.load_model(path).layers[0]
    assert inner.layers[0].folder == "/data/images"
