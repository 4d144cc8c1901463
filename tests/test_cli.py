import argparse
import functools
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_squeeze.cli import main
from keras_squeeze.cli.output import error_line, to_json
from keras_squeeze.errors import CorruptArtifactError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    import keras

    folder = tmp_path_factory.mktemp("cli")
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(40, activation="relu", name="wide"),
            keras.layers.Dense(3, name="narrow"),
        ]
    )
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.save_weights(folder / "m.weights.h5")
    # The whole-model `.h5` is built, so that tensors have their paths in it.
    assert main(["export", str(folder / "m.h5"), str(folder / "m.sq.h5")]) == 0
    return model, folder


@pytest.fixture
def run(capfd):
    """Runs a command in this process; gives its code, stdout and stderr."""

    def run(*argv):
        capfd.readouterr()
        code = main([str(argument) for argument in argv])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def flip_a_bit_of_the_payload(path, target):
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    target.write_bytes(content)


# --- usage ------------------------------------------------------------------


def test_no_verb_is_a_usage_error(run):
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "VERB" in err


def test_mistyped_verb_names_the_closest(run):
    code, out, err = run("exprot", "a", "b")
    assert (code, out) == (2, "")
    assert "invalid choice: 'exprot'" in err
    assert "did you mean 'export'?" in err


def test_mistyped_option_names_the_closest(run):
    code, _, err = run("export", "a", "b", "--bist", "4")
    assert code == 2
    assert "--bist" in err
    assert "did you mean '--bits'?" in err


@pytest.mark.parametrize("bits", ["0", "9", "17", "-1", "four", "4.0", ""])
def test_bits_out_of_range_are_a_usage_error(run, bits):
    code, _, err = run("export", "a", "b", f"--bits={bits}")
    assert code == 2
    assert f"from 1 to 8, or 16. Received: {bits!r}" in err


@pytest.mark.parametrize(
    "options", [["--filters", "x"], ["--granularity", "per_tensor"]]
)
def test_options_of_quantization_need_bits(run, options):
    code, _, err = run("export", "a", "b", *options)
    assert code == 2
    assert f"{options[0]} needs --bits" in err


@pytest.mark.parametrize(
    "verb", ["demo", "export", "inspect", "verify", "unpack", "compare"]
)
def test_every_verb_has_help_and_the_common_options(run, verb):
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert {"--json", "--quiet", "--debug"} <= set(
        out.replace("[", " ").replace("]", " ").split()
    )


def test_version(run):
    import keras_squeeze

    code, out, _ = run("--version")
    assert (code, out) == (0, f"keras-squeeze {keras_squeeze.__version__}\n")


# --- inspect and verify -----------------------------------------------------


def test_inspect_prints_tensors_and_totals(run, files):
    code, out, err = run("inspect", files[1] / "m.sq.h5")
    assert (code, err) == (0, "")
    assert "wide/kernel" in out
    assert "file bytes" in out


def test_inspect_as_json(run, files):
    path = files[1] / "m.sq.h5"
    code, out, _ = run("inspect", path, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["totals"]["file_bytes"] == path.stat().st_size
    assert {row["tensor"] for row in found["rows"]} == {
        "wide/kernel",
        "wide/bias",
        "narrow/kernel",
        "narrow/bias",
    }


def test_verify_says_yes_by_exit_code_and_quietly(run, files):
    path = files[1] / "m.sq.h5"
    code, out, err = run("verify", path)
    assert (code, err) == (0, "")
    assert "intact" in out
    assert run("verify", path, "--quiet") == (0, "", "")
    assert json.loads(run("verify", path, "--json")[1])["totals"]["ok"] is True


def test_verify_names_the_damaged_tensor(run, files, tmp_path):
    bad = tmp_path / "bad.h5"
    flip_a_bit_of_the_payload(files[1] / "m.sq.h5", bad)
    code, out, err = run("verify", bad)
    assert code == 1
    assert "damaged" in out
    assert err.count("\n") == 1
    assert err.startswith("keras-squeeze: error: ")

    code, out, _ = run("verify", bad, "--json")
    found = json.loads(out)
    damaged = [r["tensor"] for r in found["rows"] if r["status"] != "ok"]
    assert code == 1
    assert damaged
    assert all(name in found["error"] for name in damaged)
    assert found["error_type"] == "CorruptArtifactError"


@pytest.mark.parametrize("verb", ["inspect", "verify", "compare"])
def test_foreign_and_missing_files_are_one_line_errors(run, tmp_path, verb):
    foreign = tmp_path / "photo.h5"
    foreign.write_bytes(b"GIF89a" * 10)
    for path, text in [
        (foreign, "Received"),
        (tmp_path / "absent.h5", "absent.h5"),
        (tmp_path, str(tmp_path)),
    ]:
        code, out, err = run(verb, path)
        assert (code, out) == (1, "")
        assert err.startswith("keras-squeeze: error: ")
        assert err.count("\n") == 1
        assert text in err


def test_debug_adds_the_traceback(run, tmp_path):
    code, _, err = run("inspect", tmp_path / "absent.h5", "--debug")
    assert code == 1
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("keras-squeeze: error: ")


def test_plain_keras_file_is_no_artifact(run, files):
    code, _, err = run("inspect", files[1] / "m.h5")
    assert code == 1
    assert "artifact" in err


# --- export and unpack ------------------------------------------------------


@pytest.mark.parametrize("source", ["m.keras", "m.h5", "m.sq.h5"])
def test_export_is_lossless_by_default(run, files, tmp_path, source):
    import keras_squeeze as ks

    model, folder = files
    target = tmp_path / "out.h5"
    code, out, _ = run("export", folder / source, target)
    assert code == 0
    assert "ratio" in out
    loaded = ks.load_model(target).get_weights()
    for before, after in zip(model.get_weights(), loaded, strict=True):
        assert before.tobytes() == after.tobytes()


def test_export_with_bits_quantizes_the_kernels_that_match(
    run, files, tmp_path
):
    import keras_squeeze as ks

    model, folder = files
    target = tmp_path / "out.h5"
    options = ["--bits", "3", "--filters", "wide", "--json"]
    code, out, _ = run("export", folder / "m.keras", target, *options)
    assert code == 0
    assert json.loads(out)["totals"]["file_bytes"] == target.stat().st_size
    before, after = model.get_weights(), ks.load_model(target).get_weights()
    for unit in after[0].T:
        assert len(np.unique(unit)) <= 7
    assert not np.array_equal(before[0], after[0])
    assert np.array_equal(before[2], after[2])


def test_export_per_tensor_has_one_scale(run, files, tmp_path):
    import keras_squeeze as ks

    target = tmp_path / "out.h5"
    options = ["--bits", "3", "--granularity", "per_tensor"]
    code, _, err = run("export", files[1] / "m.keras", target, *options)
    assert code == 0, err
    assert len(np.unique(ks.load_model(target).get_weights()[0])) <= 7


def test_export_does_not_overwrite_when_told(run, files, tmp_path):
    target = tmp_path / "out.h5"
    target.write_bytes(b"mine")
    source = files[1] / "m.keras"
    code, _, err = run("export", source, target, "--no-overwrite")
    assert code == 1
    assert "out.h5" in err
    assert target.read_bytes() == b"mine"


def test_quantizing_a_weights_file_says_what_is_missing(run, files, tmp_path):
    source, target = files[1] / "m.weights.h5", tmp_path / "o.h5"
    code, _, err = run("export", source, target, "--bits", "4")
    assert code == 1
    assert "whole model" in err


def test_code_in_the_config_is_not_run(run, tmp_path):
    import keras

    import keras_squeeze as ks

    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)]
    )
    model.save(tmp_path / "m.keras")
    source, target = tmp_path / "m.keras", tmp_path / "o.h5"
    code, _, err = run("export", source, target, "--bits", "4")
    assert code == 1
    assert "ambda" in err
    assert not target.exists()
    assert run("export", source, target)[0] == 0
    with pytest.raises(ks.SqueezeError, match="Lambda"):
        ks.load_model(target)


@pytest.mark.parametrize("name", ["back.keras", "back.weights.h5"])
def test_unpack_gives_the_weights_back(run, files, tmp_path, name):
    from keras_squeeze.bridges.hdf5_files import read_arrays

    target = tmp_path / name
    code, out, err = run("unpack", files[1] / "m.sq.h5", target)
    assert code == 0, err
    assert name in out.replace("\n", "")
    found = sorted(a.tobytes() for a in read_arrays(target).values())
    assert found == sorted(w.tobytes() for w in files[0].get_weights())


def test_unpack_to_an_unknown_suffix(run, files, tmp_path):
    code, _, err = run("unpack", files[1] / "m.sq.h5", tmp_path / "x.onnx")
    assert code == 1
    assert ".weights.h5" in err


# --- compare ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "m.sq.h5"])
def test_compare_measures_every_codec(run, files, name):
    from keras_squeeze import codecs

    path = files[1] / name
    code, out, err = run("compare", path, "--json")
    assert code == 0, err
    found = json.loads(out)
    rows = {row["codec"]: row for row in found["rows"]}
    assert {"smallest", "raw", "gzip -9", "lzma -9"} <= set(rows)
    assert set(rows) - {"smallest", "gzip -9", "lzma -9"} <= set(codecs.names())
    weights_bytes = sum(w.nbytes for w in files[0].get_weights())
    assert rows["raw"]["bytes"] == weights_bytes
    assert rows["raw"]["ratio"] == 1
    assert rows["smallest"]["bytes"] <= min(
        row["bytes"] for key, row in rows.items() if "-9" not in key
    )
    assert all(row["encode_mb_s"] > 0 for row in rows.values())
    assert all(row["decode_mb_s"] > 0 for row in rows.values())
    assert found["totals"]["file_bytes"] == path.stat().st_size


def test_compare_on_quantized_codes(run, files):
    code, out, err = run("compare", files[1] / "m.keras", "--bits", 4, "--json")
    assert code == 0, err
    rows = {row["codec"]: row for row in json.loads(out)["rows"]}
    # 4-bit codes of the kernels, scales and biases.
    kernels, channels = 12 * 40 + 40 * 3, 40 + 3
    assert rows["raw"]["bytes"] == kernels + 4 * channels + 4 * channels
    assert rows["smallest"]["bytes"] < kernels / 2 + 8 * channels


def test_compare_refuses_to_quantize_nan(run, tmp_path):
    import h5py

    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.array([[np.nan, 1.0]], "float32")
    assert run("compare", path)[0] == 0
    code, _, err = run("compare", path, "--bits", 4)
    assert code == 1
    assert "layers/dense/vars/0" in err


def test_compare_of_a_file_without_weights(run, tmp_path):
    import h5py

    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layers")
    code, _, err = run("compare", path)
    assert code == 1
    assert "with none" in err


def test_a_codec_that_lies_is_found_out():
    from keras_squeeze.codecs.trials import Trial

    def encode(array):
        return None, b"x"

    def decode(coded, arrays):
        return [np.zeros_like(array) for array in arrays]

    trial = Trial("liar", [np.ones(3)], encode, decode, 1)
    with pytest.raises(CorruptArtifactError, match="liar"):
        trial.measure()


# --- demo -------------------------------------------------------------------


@pytest.fixture
def short_demo(monkeypatch):
    """The demo with few images and epochs."""
    pytest.importorskip("sklearn")
    from keras_squeeze.cli import demo_recipe

    load = functools.partial(demo_recipe.load_digits_data, shifted=False)
    monkeypatch.setattr(demo_recipe, "load_digits_data", load)
    monkeypatch.setattr(demo_recipe, "EPOCHS", 3)
    monkeypatch.setattr(demo_recipe, "PRUNING_EPOCHS", 4)
    return demo_recipe


def test_demo_shows_progress_and_measures_the_files_it_leaves(
    run, tmp_path, short_demo
):
    import keras_squeeze as ks

    folder = tmp_path / "made" / "here"
    code, out, err = run("demo", "--output", folder, "--seed", 5, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [row["step"] for row in found["rows"]] == [
        "trained",
        "trained",
        "trained",
        "pruned",
        "quantized",
        "exported, reloaded",
    ]
    for row in found["rows"]:
        assert row["bytes"] == (folder / row["file"]).stat().st_size
    rows = {row["file"]: row for row in found["rows"]}
    sizes = [
        rows[name]["bytes"]
        for name in (
            "plain.h5",
            "plain.h5.gz",
            "pruned.h5.gz",
            "quantized.h5.gz",
            "digits.squeeze.h5",
        )
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert rows["digits.squeeze.h5"]["ratio"] == sizes[0] / sizes[-1]
    reloaded = ks.load_model(folder / "digits.squeeze.h5")
    score = short_demo.accuracy(reloaded, short_demo.load_digits_data())
    assert rows["digits.squeeze.h5"]["accuracy"] == score > 0.8
    assert found["totals"]["seed"] == 5

    assert len(re.findall(r"epoch +\d+ .*accuracy", err)) == 3 + 4
    assert "sparsity" in err
    assert "arning" not in err


def test_demo_says_what_to_do_next(tmp_path):
    from keras_squeeze.cli import demo

    lines = demo.closing(argparse.Namespace(output=str(tmp_path))).splitlines()
    path = tmp_path / "digits.squeeze.h5"
    assert f"  keras-squeeze inspect {path}" in lines
    assert str(tmp_path) in lines[1]


def test_demo_without_scikit_learn_names_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = run("demo", "--output", tmp_path / "d")
    assert code == 1
    assert "pip install 'keras_squeeze[demo]'" in err
    assert not (tmp_path / "d").exists()


# --- output -----------------------------------------------------------------


def test_json_is_strict_whatever_the_values():
    text = to_json(
        {
            "a": np.float32(0.5),
            "b": math.nan,
            "c": [np.int64(3), np.inf],
            "d": (1, None, True),
            "e": np.arange(2),
        }
    )
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": 0.5,
        "b": None,
        "c": [3, None],
        "d": [1, None, True],
        "e": [0, 1],
    }


def test_error_line_is_one_line_and_says_what_happened():
    assert error_line(ValueError("one\n  two")) == "one two"
    assert error_line(KeyError("x")) == "KeyError: 'x'"
    assert error_line(MemoryError()) == "MemoryError"
    assert error_line(FileNotFoundError(2, "No such file", "a.h5")) == (
        "No such file: a.h5"
    )


# --- as a program -----------------------------------------------------------


def program(*argv, **kwargs):
    command = [sys.executable, "-m", "keras_squeeze", *map(str, argv)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, **kwargs
    )


def child_seconds(code):
    """Runs Python code; its output and the processor time it took."""
    before = os.times()
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    after = os.times()
    assert child.returncode == 0, child.stderr
    seconds = after.children_user + after.children_system
    return child.stdout, seconds - before.children_user - before.children_system


@pytest.fixture(scope="module")
def keras_import_seconds():
    return child_seconds("import keras")[1]


@pytest.mark.parametrize("verb", ["inspect", "verify"])
def test_program_answers_long_before_keras_is_imported(
    files, verb, keras_import_seconds
):
    path = files[1] / "m.sq.h5"
    code = (
        "import sys; from keras_squeeze.cli import main; "
        f"code = main([{verb!r}, {str(path)!r}]); "
        "print({'keras', 'tensorflow'} & set(sys.modules)); sys.exit(code)"
    )
    output, seconds = child_seconds(code)
    assert output.splitlines()[-1] == "set()"
    assert seconds < keras_import_seconds / 2


def test_program_exit_codes(files, tmp_path):
    assert program("verify", files[1] / "m.sq.h5").returncode == 0
    assert program("verify", tmp_path / "absent.h5").returncode == 1
    assert program("verfy").returncode == 2


def test_program_survives_a_reader_that_goes_away(files):
    command = [sys.executable, "-m", "keras_squeeze", "inspect"]
    read, write = os.pipe()
    os.close(read)
    child = subprocess.run(
        [*command, str(files[1] / "m.sq.h5")],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(write)
    assert (child.returncode, child.stderr) == (1, "")
