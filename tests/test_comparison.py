import numpy as np
import pytest

from keras_squeeze.codecs.bzip2 import Bzip2
from keras_squeeze.codecs.comparison import compare
from keras_squeeze.codecs.trials import Trial
from keras_squeeze.codecs.zstd import Zstd
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.report import Report

RNG = np.random.default_rng(0)
CODES = RNG.normal(0, 2, (60, 50)).round().astype("int8")
SCALES = RNG.normal(0, 1, 50).astype("float32")


def test_every_figure_is_about_the_same_arrays():
    report = compare({"codes": CODES, "scale": SCALES}, ["raw", "rans"])
    assert report.totals == {
        "tensors": 2,
        "weights": 3050,
        "array_bytes": 3200,
    }
    rows = {row["codec"]: row for row in report.rows}
    assert rows["raw"]["bytes"] == 3200
    assert rows["raw"]["tensors"] == 2
    assert rows["raw"]["ratio"] == 1
    assert rows["raw"]["bits_per_weight"] == pytest.approx(8 * 3200 / 3050)
    # The scales go raw: rans takes integers.
    assert rows["rans"]["tensors"] == 1
    assert 200 < rows["rans"]["bytes"] < 200 + 3000 / 2
    for row in rows.values():
        assert row["encode_mb_s"] > 0 and row["decode_mb_s"] > 0


def test_rows_are_sorted_and_named_by_their_config():
    report = compare(
        [CODES], ["raw", {"id": "deflate"}, Bzip2(level=1), Bzip2()], repeats=1
    )
    sizes = [row["bytes"] for row in report.rows]
    assert sizes == sorted(sizes)
    assert len(sizes) == 4
    assert isinstance(report, Report)
    assert "bits per weight" in str(report)


def test_by_default_all_registered_codecs_are_compared():
    from keras_squeeze import codecs

    report = compare([CODES[:5]], repeats=1)
    found = {row["codec"] for row in report.rows}
    skipped = {item["path"] for item in report.skipped}
    assert {"smallest", "gzip -9", "lzma -9", "raw", "rans"} <= found
    assert {"byte_planes"} <= skipped
    assert found - {"smallest", "gzip -9", "lzma -9"} | skipped == set(
        codecs.names()
    )
    smallest = next(r for r in report.rows if r["codec"] == "smallest")
    assert smallest["bytes"] <= min(
        row["bytes"] for row in report.rows if row["codec"] in ("raw", "rans")
    )


def test_the_ratio_can_be_to_something_else():
    report = compare([CODES], ["raw"], repeats=1, original_bytes=4 * CODES.size)
    assert report.rows[0]["ratio"] == 4


def test_nothing_to_compare():
    for arrays in ([], {}, [np.zeros((3, 0))]):
        with pytest.raises(SqueezeError, match="with elements"):
            compare(arrays)


def test_a_codec_without_its_library_is_skipped_or_refused(monkeypatch):
    monkeypatch.setattr(Zstd, "library", "a_library_that_nobody_wrote")
    with pytest.raises(SqueezeError, match=r"keras_squeeze\[codecs\]"):
        compare([CODES], [Zstd()])


def test_a_codec_that_lies_is_found_out():
    def encode(array):
        return None, b"x"

    def decode(coded, arrays):
        return [np.zeros_like(array) for array in arrays]

    trial = Trial("liar", [np.ones(3)], encode, decode, 1)
    with pytest.raises(CorruptArtifactError, match="liar"):
        trial.measure()


def test_the_plot_is_an_image(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "codecs.png"
    compare([CODES], ["raw", "rans"], repeats=1, plot=path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SqueezeError, match="an image"):
        compare([CODES], ["raw"], repeats=1, plot=tmp_path / "codecs.unknown")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SqueezeError, match=r"keras_squeeze\[plot\]"):
        compare([CODES], ["raw"], repeats=1, plot=tmp_path / "codecs.png")


def test_the_command_compares_chosen_codecs(tmp_path, capsys):
    import json

    import h5py

    from keras_squeeze.cli import main

    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = CODES.astype("float32")
    arguments = ["compare", str(path), "--codecs", "raw", "deflate", "--json"]
    assert main(arguments) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["codec"] for row in rows] == ["deflate", "raw"]
    assert main([*arguments, "--codecs", "nonsense"]) == 1
    assert "nonsense" in capsys.readouterr().err


def test_the_command_compares_what_an_artifact_stores(tmp_path):
    from keras_squeeze import artifact, quantizers
    from keras_squeeze.artifact import TensorInput
    from keras_squeeze.cli.compare import stored_parts

    kernel = RNG.normal(0, 1, (8, 4)).astype("float32")
    tensor = quantizers.get("absmax", bits=4).encode(kernel, axis=1)
    inputs = [
        TensorInput.from_quantized("kernel", "float32", tensor),
        TensorInput.from_values("bias", SCALES),
    ]
    path = str(tmp_path / "m.h5")
    model = {"class_name": "Model", "name": "m", "config": None}
    model["quantized_layers"] = []
    artifact.write(path, inputs, model, keras_version="3.15.1")
    found = stored_parts(path)
    assert [array.dtype.name for array in found] == ["int8"] + 2 * ["float32"]
    assert (found[0] == tensor.codes).all()
    assert stored_parts_of_no_artifact(tmp_path) == []


def stored_parts_of_no_artifact(folder):
    import h5py

    from keras_squeeze.cli.compare import stored_parts

    with h5py.File(folder / "plain.h5", "w") as file:
        file["x"] = CODES
    return stored_parts(str(folder / "plain.h5"))
