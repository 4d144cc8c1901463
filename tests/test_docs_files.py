"""Every Python block of docs/files.md and of SECURITY.md runs."""

import pathlib
import re
import shutil

import keras
import numpy as np
import pytest

import keras_squeeze as ks

ROOT = pathlib.Path(__file__).parents[1]
#: What needs a bundle of another tool, or starts other processes.
ELSEWHERE = ("model.sig", "ProcessPoolExecutor")


def blocks_of(name):
    text = (ROOT / name).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return [b for b in blocks if not any(word in b for word in ELSEWHERE)]


def compiled_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adam", "mse", run_eagerly=True)
    return model


def test_blocks_of_files(tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 2))
    names = {"x": x, "y": y}
    blocks = blocks_of("docs/files.md")
    for number, block in enumerate(blocks):
        names["model"] = compiled_model()
        ready = block.replace("model.fit(x, y)", "model.fit(x, y, verbose=0)")
        exec(compile(ready, f"files.md, block {number}", "exec"), names)
    assert len(blocks) >= 8
    assert (tmp_path / "v2.h5").exists()


def test_blocks_of_security(tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    monkeypatch.chdir(tmp_path)
    model = compiled_model()
    ks.export(model, "theirs.h5")
    ks.artifact.generate_keys("private.pem", "them.pem")
    ks.sign("theirs.h5", "private.pem")
    shutil.copy("theirs.h5", "copy.h5")
    (block,) = blocks_of("SECURITY.md")
    exec(compile(block, "SECURITY.md", "exec"), {"my_model": compiled_model()})
