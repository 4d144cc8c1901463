"""Files of every released format stay readable, bit for bit."""

import json
from pathlib import Path

import numpy as np
import pytest

import keras_squeeze as ks
from tests.golden.make_format_1 import digests

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("format-*/*.h5"))


def test_there_are_golden_files():
    assert len(FILES) >= 6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_tensors_decode_as_ever(path):
    expected = json.loads((path.parent / "expected.json").read_text())
    assert digests(path) == expected[path.name]
    assert ks.verify(path).totals["ok"]


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.name != "tensors.h5"], ids=lambda p: p.name
)
def test_models_load_as_ever(path):
    model = ks.load_model(path)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype("float32")
    assert np.isfinite(model.predict(x, verbose=0)).all()
