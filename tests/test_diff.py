"""`diff` and `apply`: what changed, tensor by tensor, and the whole again."""

import argparse
import json

import ml_dtypes
import numpy as np
import pytest

from keras_squeeze import artifact, quantizers
from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.chain import open_chain
from keras_squeeze.artifact.differences import diff
from keras_squeeze.cli import apply as apply_verb
from keras_squeeze.cli import diff as diff_verb
from keras_squeeze.errors import BaseMismatchError, SqueezeError
from tests.golden.make_increments_format_1 import FOLDER, NAMES


def write(path, arrays, base=None):
    return artifact.write(
        str(path),
        [TensorInput.from_values(n, a) for n, a in arrays.items()],
        {"class_name": "Sequential", "name": "m"},
        keras_version="3.15.1",
        base=base,
    )


@pytest.fixture
def files(tmp_path, rng):
    old = {
        "body/kernel": rng.normal(size=(30, 20)).astype("float32"),
        "head/kernel": np.ones((20, 10), "float32"),
        "head/bias": np.zeros(10, "float32"),
        "gone/bias": np.zeros(3, "float32"),
        "wide/kernel": np.ones((4, 4), "float32"),
    }
    new = {
        "body/kernel": old["body/kernel"],
        "head/kernel": old["head/kernel"].copy(),
        "head/bias": np.full(10, 0.25, "float32"),
        "wide/kernel": np.ones((4, 5), "float32"),
        "new/bias": np.zeros(7, "float32"),
    }
    new["head/kernel"][:, 0] = 1.5
    base = write(tmp_path / "a.h5", old)
    write(tmp_path / "b.h5", new)
    write(tmp_path / "c.h5", new, base)
    return tmp_path


def test_rows_say_what_changed(files):
    report = diff(files / "a.h5", files / "b.h5")
    rows = {row["tensor"]: row for row in report.rows}
    assert {name: row["change"] for name, row in rows.items()} == {
        "body/kernel": "same",
        "head/kernel": "changed",
        "head/bias": "changed",
        "wide/kernel": "reshaped",
        "new/bias": "added",
        "gone/bias": "removed",
    }
    head = rows["head/kernel"]
    assert head["changed"] == 0.1
    assert head["max_change"] == 0.5
    assert head["relative_change"] == pytest.approx(np.sqrt(0.1 * 0.25))
    assert rows["head/bias"]["relative_change"] is None
    assert rows["body/kernel"]["bytes"] == 0
    assert 0 < head["bytes"] < 60
    assert report.totals["changed"] == 2
    assert "head/kernel" in str(report)
    json.dumps(report.to_dict())


def test_an_increment_is_compared_by_what_it_holds(files):
    whole = diff(files / "a.h5", files / "b.h5")
    assert diff(files / "a.h5", files / "c.h5").rows == whole.rows
    with pytest.raises(BaseMismatchError):
        diff(files / "b.h5", files / "c.h5")
    same = diff(files / "b.h5", files / "c.h5", base=files / "a.h5")
    assert {row["change"] for row in same.rows} == {"same"}
    with artifact.read(files / "a.h5") as opened:
        assert diff(opened, opened).totals["same"] == 5


def test_dtypes_specials_and_codes(tmp_path, rng):
    old = {
        "nan": np.array([np.nan, 1, np.inf, 0.0], "float32"),
        "half": np.ones(4, ml_dtypes.bfloat16),
        "complex": np.ones(3, "complex64"),
        "flag": np.array([True, False]),
        "retyped": np.ones(2, "float32"),
        "empty": np.zeros((0, 3), "float32"),
    }
    new = {
        **old,
        "nan": np.array([np.nan, 3, np.inf, -0.0], "float32"),
        "complex": np.array([1, 1j, 1], "complex64"),
        "flag": np.array([True, True]),
        "retyped": np.ones(2, "float16"),
    }
    write(tmp_path / "a.h5", old)
    write(tmp_path / "b.h5", new)
    report = diff(tmp_path / "a.h5", tmp_path / "b.h5")
    rows = {row["tensor"]: row for row in report.rows}
    assert rows["nan"]["changed"] == 0.5
    assert rows["nan"]["max_change"] == 2
    assert rows["complex"]["max_change"] == pytest.approx(np.sqrt(2), 1e-5)
    assert rows["flag"]["changed"] == 0.5
    unchanged = {rows[n]["change"] for n in ("half", "retyped", "empty")}
    assert unchanged == {"same"}


def test_the_verbs(files):
    a, b, c, d = (files / f"{name}.h5" for name in "abcd")
    assert run(diff_verb, a, c).totals["added"] == 1
    report = run(apply_verb, c, d, "--base", a)
    assert report.totals["bytes_of_increment"] > 0
    assert d.read_bytes() == b.read_bytes()


def run(verb, *arguments):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args(list(map(str, arguments))))


def test_a_chain_by_its_paths(tmp_path):
    below, middle, top = (FOLDER / name for name in NAMES)
    with open_chain(top, middle, below) as opened:
        assert opened.base.base.path == str(below)
        found = opened.decode("drift")
    with pytest.raises(BaseMismatchError):
        open_chain(top, below)
    with pytest.raises(SqueezeError, match="at least one path"):
        open_chain()
    with open_chain(below, below) as opened:
        assert opened.base is None
    out = tmp_path / "whole.h5"
    run(apply_verb, top, out, "--base", middle, "--base", below)
    with artifact.read(out) as whole:
        assert (whole.decode("drift") == found).all()
    report = run(diff_verb, out, top, "--base", middle, "--base", below)
    assert {row["change"] for row in report.rows} == {"same"}


def test_codes_are_compared_by_their_values(tmp_path, rng):
    kernel = rng.normal(size=(8, 6)).astype("float32")
    tensor = quantizers.get("absmax", bits=4).encode(kernel, axis=1)
    for name, item in (
        ("a", TensorInput.from_quantized("k", "float32", tensor)),
        ("b", TensorInput.from_values("k", tensor.dequantize())),
    ):
        artifact.write(
            str(tmp_path / f"{name}.h5"), [item], {}, keras_version="3.15.1"
        )
    report = diff(tmp_path / "a.h5", tmp_path / "b.h5")
    assert report.rows[0]["change"] == "same"
    assert report.rows[0]["bytes"] == 0
