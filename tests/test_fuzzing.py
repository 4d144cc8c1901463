"""The corpora of the fuzzers, decoded with and without compiled kernels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_squeeze.codecs import dtypes
from keras_squeeze.errors import SqueezeError
from tests.fuzzing import entries, kernels, streams

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("KERAS_SQUEEZE_ROUNDS", "1"))
# The reference of context mixing decodes some ten thousand elements a second.
MOST_MIXED = 40


def quick(item):
    entry = entries.unpack(item)
    if entry is None or entry.codec != "context_mixing" or ROUNDS > 1:
        return True
    return np.prod(entry.shape) <= MOST_MIXED


def test_kernels_and_references_agree_on_every_stream(tmp_path):
    items = [item for item in entries.read_corpus() if quick(item)]
    assert len(items) > 150
    entries.write_corpus(items, tmp_path / "items.bin")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.entries", tmp_path / "items.bin"],
        cwd=ROOT,
        env={**os.environ, "KERAS_SQUEEZE_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = entries.results(items)
    assert json.loads(done.stdout) == found
    assert any(found) and None in found


def test_corpora_are_small():
    found = list(entries.CORPUS.parent.iterdir())
    assert {path.name for path in found} == {"streams.bin", "kernels.bin"}
    assert sum(path.stat().st_size for path in found) < 200_000
    for path in found:
        items = entries.read_corpus(path)
        assert len(items) == len(set(items))


def test_entries_survive_packing():
    for item in entries.read_corpus():
        entry = entries.unpack(item)
        if entry is not None:
            assert entries.unpack(entry.pack()) == entry
    assert entries.unpack(b"") is None
    assert entries.unpack(b"\0\0\3\1\0") is None


def test_mutations_are_decoded_or_refused():
    """What the fuzzers do, without coverage and for a moment."""
    random = np.random.default_rng(5)
    items = [item for item in entries.read_corpus() if quick(item)]
    for _ in range(300 * ROUNDS):
        entry = entries.unpack(streams.mutated(random, items))
        if entry is not None and quick(entry.pack()):
            out = entries.decode(entry)
            assert out is None or out.shape == entry.shape


@pytest.mark.parametrize("name", entries.CODECS)
def test_noise_is_refused(name):
    random = np.random.default_rng(6)
    for _ in range(60 * ROUNDS):
        kind = dtypes.DTYPE_NAMES[int(random.integers(len(dtypes.DTYPE_NAMES)))]
        shape = tuple(random.integers(0, 6, int(random.integers(4))).tolist())
        noise = random.bytes(int(random.integers(60)))
        noise = noise if random.random() < 0.5 else bytes(n & 7 for n in noise)
        out = entries.decode(entries.Entry(name, kind, shape, noise))
        assert out is None or out.shape == shape


def test_an_escaping_error_is_not_taken_for_a_refusal(monkeypatch):
    class Broken:
        def decode(self, data, shape, dtype):
            raise IndexError

    monkeypatch.setattr(entries.codecs, "get", lambda name: Broken())
    with pytest.raises(IndexError):
        entries.decode(entries.Entry("raw", "int8", (1,), b"\0"))
    assert not issubclass(IndexError, SqueezeError)


def test_the_header_of_the_kernels_fuzzer_names_every_model():
    text = kernels.models_header()
    assert f"MODEL_COUNT = {len(kernels.MODELS)}" in text
    for i, model in enumerate(kernels.MODELS):
        start = text.index(f"prior_nodes_{i}[]")
        numbers = text[start : text.index(";", start)].count(",") + 1
        assert numbers == model.priors.nodes.size
        contexts = sum(model.context_sizes(2, 3))
        assert contexts > 0
