"""docs/format.md says all that reading a file takes.

`tests/independent_reader.py` and `tests/independent_codecs.py`, of less than a
hundred lines each, were written from that page alone.
"""

import hashlib
import json
import re
from pathlib import Path

import h5py
import pytest

from tests import independent_reader

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("golden/format-*/*.h5"))
# Of these codecs the appendix is the specification, not the page.
IN_THE_APPENDIX = {"context_mixing", "float_fields"}


@pytest.mark.parametrize(
    "path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_golden_files_decode(path):
    expected = json.loads((path.parent / "expected.json").read_text())
    found = independent_reader.read(path)
    assert list(found) and set(found) == set(expected[path.name])
    for name, array in found.items():
        if array is not None:
            digest = hashlib.sha256(array.tobytes()).hexdigest()
            assert digest == expected[path.name][name], name


def test_all_tensors_but_those_of_two_codecs_are_read():
    skipped = [
        name
        for path in FILES
        for name, array in independent_reader.read(path).items()
        if array is None
    ]
    assert len(skipped) == 4


@pytest.mark.parametrize("name", ["reader", "codecs"])
def test_the_reader_is_short_and_imports_nothing_of_ours(name):
    text = (FOLDER / f"independent_{name}.py").read_text()
    assert len(text.splitlines()) < 100
    assert "keras" not in text.replace("docs/format.md", "")


@pytest.mark.parametrize(
    "path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_the_appendix_finds_the_stream_without_a_library(path):
    text = (FOLDER.parent / "docs" / "codec_formats.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names = {}
    exec(code, names)
    with h5py.File(path) as file:
        top = file["model_weights/top_level_model_weights"]
        stream = top["stream"][()].tobytes()
    assert names["stream_of"](path.read_bytes()) == stream
