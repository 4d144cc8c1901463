"""Every Python block of docs/quantization.md and docs/training.md runs."""

import pathlib
import re

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze.quantizers import registry

DOCS = pathlib.Path(__file__).parents[1] / "docs"
TEXTS = {
    name: (DOCS / name).read_text()
    for name in ("quantization.md", "training.md")
}


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, use_bias=False, name="stem"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(12, activation="relu", name="hidden"),
            keras.layers.Dense(3, activation="softmax", name="head"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


def quiet(block: str) -> str:
    """The block, trained for one epoch and without a progress bar."""
    block = re.sub(r"epochs=\d+", "epochs=1, verbose=0", block)
    return block.replace("target_bytes=12_000", "target_bytes=4_600")


@pytest.mark.parametrize("name", TEXTS)
def test_all_blocks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 1)).astype("float32")
    names = {"ks": ks, "x": x, "x_train": x, "images": x}
    names["y"] = rng.integers(0, 3, 8)
    ks.export(make_model(), "model.squeeze.h5", bits=4)
    blocks = re.findall(r"```python\n(.*?)```", TEXTS[name], flags=re.DOTALL)
    for number, block in enumerate(blocks):
        names["model"] = make_model()
        exec(compile(quiet(block), f"{name}, block {number}", "exec"), names)
    assert (tmp_path / "m.squeeze.h5").exists() == (name == "quantization.md")


def test_the_table_names_every_quantizer():
    table = TEXTS["quantization.md"].split("## Which quantizer")[1]
    table = table.split("**Granularity.**")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row[:3] == "| `"]
    named = [found for row in rows for found in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(registry)
