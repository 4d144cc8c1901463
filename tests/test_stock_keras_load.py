"""Stock `keras.models.load_model` opens an artifact, on every Keras line."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.errors import SqueezeError
from tests import models


@pytest.mark.parametrize("kind", [k for k in models.ALL])
def test_stock_load_returns_the_real_model(tmp_path, kind):
    model, x = models.make(kind)
    small, _ = ks.quantize(model, bits=4)
    for source in (model, small):
        ks.export(source, tmp_path / "m.h5")
        loaded = keras.models.load_model(tmp_path / "m.h5", compile=False)
        assert type(loaded) is type(source)
        expected = keras.tree.flatten(source.predict(x, verbose=0))
        received = keras.tree.flatten(loaded.predict(x, verbose=0))
        for a, b in zip(expected, received, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_loaded_model_trains_saves_and_exports(tmp_path):
    model, x = models.make("sequential")
    ks.export(model, tmp_path / "m.h5")
    loaded = keras.models.load_model(tmp_path / "m.h5", compile=False)
    loaded.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    loaded.fit(x, np.array([0, 1, 2]), verbose=0)
    loaded.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), again.predict(x, verbose=0)
    )
    ks.export(loaded, tmp_path / "again.h5")
    assert len(ks.load_model(tmp_path / "again.h5").weights) == len(
        model.weights
    )


def test_custom_objects_reach_the_model(tmp_path):
    model = models.Unregistered()
    x = np.ones((2, 6), "float32")
    model(x)
    ks.export(model, tmp_path / "m.h5")
    loaded = keras.models.load_model(
        tmp_path / "m.h5",
        custom_objects={"Unregistered": models.Unregistered},
        compile=False,
    )
    np.testing.assert_array_equal(model(x), loaded(x))


def test_a_damaged_stream_is_refused_by_the_stock_door_too(tmp_path):
    model, _ = models.make("functional")
    ks.export(model, tmp_path / "m.h5")
    data = bytearray((tmp_path / "m.h5").read_bytes())
    data[-5] ^= 16
    (tmp_path / "m.h5").write_bytes(data)
    with pytest.raises(SqueezeError, match="SHA-256"):
        keras.models.load_model(tmp_path / "m.h5", compile=False)


@pytest.mark.parametrize(
    "imports",
    [
        "import keras_squeeze, keras",
        "import keras, keras_squeeze",
        "import tensorflow, keras_squeeze, keras",
    ],
)
def test_the_order_of_imports_does_not_matter(tmp_path, imports):
    model, _ = models.make("functional")
    small, _ = ks.quantize(model, bits=4)
    ks.export(small, tmp_path / "m.h5")
    code = (
        f"{imports}\nimport sys\n"
        "model = keras.models.load_model(sys.argv[1], compile=False)\n"
        "print(type(model).__name__, len(model.weights))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.h5")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["Functional", str(len(small.weights))]


def test_files_that_only_our_door_opens(tmp_path):
    model, _ = models.make("sequential")
    ks.export(model, tmp_path / "base.h5")
    ks.export(model, tmp_path / "m.h5", base=tmp_path / "base.h5")
    with pytest.raises(ks.SqueezeError, match=r"ks\.load_model"):
        keras.models.load_model(tmp_path / "m.h5")
    model.save_weights(tmp_path / "m.weights.h5")
    ks.export(tmp_path / "m.weights.h5", tmp_path / "m.h5")
    with pytest.raises(ks.SqueezeError, match=r"ks\.load_weights"):
        keras.models.load_model(tmp_path / "m.h5")
