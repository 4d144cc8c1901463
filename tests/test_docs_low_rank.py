"""Every Python block of docs/low_rank.md runs, one after the other."""

import pathlib
import re

import keras
import numpy as np
from keras import layers

import keras_squeeze as ks

DOCS = pathlib.Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "low_rank.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def make_model():
    """What a reader brings: a model whose kernel is nearly of low rank."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((24,)),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(3, name="head"),
        ]
    )
    rng = np.random.default_rng(0)
    product = rng.normal(size=(24, 6)) @ rng.normal(size=(6, 32))
    model.get_layer("hidden").kernel.assign(0.1 * product)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model


def test_all_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = {
        "x": rng.normal(size=(32, 24)).astype("float32"),
        "y": rng.integers(0, 3, 32),
    }
    for number, block in enumerate(BLOCKS):
        if "plain = " not in block and "half = " not in block:
            names["model"] = make_model()
        elif "plain = " in block:
            callback = ks.callbacks.LowRankFactorization(rank=4, begin_epoch=0)
            names["model"].fit(
                names["x"], names["y"], verbose=0, callbacks=[callback]
            )
        code = compile(block, f"docs/low_rank.md, block {number}", "exec")
        exec(code, names)
    stock = keras.models.load_model(tmp_path / "small.keras")
    assert [type(layer).__module__ for layer in stock.layers] == [
        type(layer).__module__ for layer in names["plain"].layers
    ]
    assert names["served"].count_params() < make_model().count_params()


def test_tables_name_what_the_registries_hold():
    methods = TEXT.split("\n## Which method")[1].split("\n## ")[0]
    named = set(re.findall(r'^\|[^|]*\| `"(\w+)"`', methods, re.MULTILINE))
    assert named == set(ks.low_rank.decompositions.registry)
    rules = TEXT.split("\n## Which ranks")[1].split("\n## ")[0]
    named = set(re.findall(r'`rank="(\w+)"`', rules))
    # Numbers and `energy` stand for these.
    named |= {"fixed", "fraction", "fixed_rank", "rank_fraction", "energy"}
    assert named == set(ks.low_rank.rank_rules.registry)
