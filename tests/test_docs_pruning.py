"""Every Python block of docs/pruning.md runs, one after the other."""

import importlib.util
import pathlib
import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_squeeze as ks

DOCS = pathlib.Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "pruning.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
PLOTS = importlib.util.find_spec("matplotlib") is not None


def named_by_the_reader():
    """What a reader brings: a model and data."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(3, activation="softmax", name="head"),
        ]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 6, 6, 1)).astype("float32")
    y = rng.integers(0, 3, 32)
    return {"model": model, "x": x, "y": y, "batches": [(x, y)] * 3}


def compile_anew(model):
    # A few eager steps are cheaper than tracing.
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, run_eagerly=True)


def test_all_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = named_by_the_reader()
    for number, block in enumerate(BLOCKS):
        # Each block is read for itself: its steps begin at 0.
        compile_anew(names["model"])
        if PLOTS or "plot_sparsity" not in block:
            code = compile(block, f"docs/pruning.md, block {number}", "exec")
            exec(code, names)
    assert names["smaller"].get_layer("hidden").units == 4
    restored = keras.models.load_model(tmp_path / "smaller.keras")
    assert restored.count_params() == names["smaller"].count_params()
    assert (tmp_path / "pruned.squeeze.h5").exists()
    assert not PLOTS or (tmp_path / "layers_over_time.png").exists()
    assert "coded bytes" in capsys.readouterr().out


def test_pictures_and_sections_that_are_named_exist():
    for image in re.findall(r"\]\((images/[^)]+)\)", TEXT):
        assert (DOCS / image).exists(), image
    headings = re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    anchors = {
        re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


@pytest.mark.parametrize(
    ("section", "registry"),
    [
        ("Criteria", ks.pruning.criteria.registry),
        ("Patterns", ks.pruning.patterns.registry),
        ("Allocation", ks.pruning.allocations.registry),
        ("Regrowth", ks.pruning.regrowths.registry),
    ],
)
def test_tables_name_what_the_registries_hold(section, registry):
    text = TEXT.split(f"\n## {section}")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", text, flags=re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", " ".join(cells)))
    assert named <= set(registry)
    assert set(registry) - named <= {"per_layer"}
