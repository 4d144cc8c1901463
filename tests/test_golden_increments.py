"""Increments of format 1 stay readable, bit for bit."""

import json

import pytest

from keras_squeeze import artifact
from keras_squeeze.errors import BaseMismatchError
from tests.golden.make_increments_format_1 import (
    FOLDER,
    NAMES,
    describe,
    opened,
)


def test_a_chain_decodes_as_ever():
    expected = json.loads((FOLDER / "expected.json").read_text())
    for name, found in zip(NAMES, opened(), strict=True):
        assert describe(found) == expected[name]


def test_every_way_to_code_a_part_is_there():
    *_, last = opened()
    configs = [p.codec for r in last.tensors for p in r.parts]
    assert {"same", "difference", "float_residual"} <= {
        config["id"] for config in configs
    }
    momenta = {c["id"] for c in configs if c.get("momentum")}
    assert momenta == {"difference", "float_residual"}
    assert any(record.base for record in last.tensors)
    stored = artifact.read_manifest(FOLDER / NAMES[-1])
    assert stored.manifest.base.unchanged


def test_the_files_need_each_other():
    for name in NAMES[1:]:
        with pytest.raises(BaseMismatchError):
            artifact.read(FOLDER / name)
