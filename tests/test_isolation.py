"""`verify(isolate=True)`: every file gets a verdict, and we live on."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import Access, Limits, TensorInput, isolation
from keras_squeeze.artifact.isolation import Isolation, verify_isolated
from keras_squeeze.cli import main
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    DecryptionError,
    LimitExceededError,
    NotAnArtifactError,
    SignatureError,
    SqueezeError,
    UnsafeArtifactError,
)
from keras_squeeze.report import Report
from tests import handmade_files

MODEL = {"class_name": "Sequential", "name": "m", "config": None}
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs limits")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    target = tmp_path_factory.mktemp("isolation") / "a.h5"
    values = np.random.default_rng(0).normal(size=(20, 30))
    artifact.write(
        str(target),
        [TensorInput.from_values("w", values.astype("float32"))],
        MODEL,
        keras_version="3.15.1",
    )
    return target


def test_the_report_is_the_same(path):
    assert artifact.verify(path, isolate=True) == artifact.verify(path)


def test_a_damaged_file_comes_with_its_report(path, tmp_path, capsys):
    bad = tmp_path / "bad.h5"
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    bad.write_bytes(data)
    with pytest.raises(CorruptArtifactError) as alone:
        artifact.verify(bad)
    assert main(["verify", str(bad), "--isolate", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["error"] == str(alone.value)
    assert shown["rows"] == alone.value.report.to_dict()["rows"]
    assert shown["rows"][0]["status"] == "damaged"


def test_errors_are_the_same_as_without(path, tmp_path):
    foreign = tmp_path / "foreign.h5"
    foreign.write_bytes(b"not HDF5")
    with pytest.raises(NotAnArtifactError, match="not HDF5"):
        verify_isolated(foreign)
    with pytest.raises(FileNotFoundError, match=r"absent\.h5"):
        verify_isolated(tmp_path / "absent.h5")


def test_what_vouches_for_the_file_goes_to_the_child(path):
    digest = sha256(path.read_bytes()).hexdigest()
    access = Access(Limits(max_tensors=3), expected_sha256=digest)
    assert verify_isolated(path, access).totals["ok"]
    with pytest.raises(SignatureError, match="0000"):
        verify_isolated(path, Access(expected_sha256="0" * 64))


def test_access_as_json(tmp_path):
    access = Access(
        public_key=tmp_path / "key.pem", signature=b"sig", key=b"\x01\x02"
    )
    options = isolation._to_json(access)
    assert options["public_key"] == str(tmp_path / "key.pem")
    assert options["key"] == {"hex": "0102"}
    assert json.loads(json.dumps(options)) == options


def test_a_key_of_the_package_cryptography(path, tmp_path):
    pytest.importorskip("cryptography")
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    artifact.generate_keys(private, public)
    artifact.sign(path, private, tmp_path / "a.sig")
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_public_key(public.read_bytes())
    access = Access(public_key=key, signature=tmp_path / "a.sig")
    assert verify_isolated(path, access).totals["ok"]


# --- processes that do not answer ---------------------------------------------


def answers(monkeypatch, program, **limits):
    """What is made of a child that runs `program`."""
    monkeypatch.setattr(isolation, "_PROGRAM", program)
    return verify_isolated("file.h5", isolation=Isolation(**limits))


@POSIX
@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS"])
def test_a_crash_is_a_verdict(monkeypatch, signal):
    program = f"import os, signal; os.kill(os.getpid(), signal.{signal})"
    with pytest.raises(UnsafeArtifactError, match=f"file.h5.*{signal}"):
        answers(monkeypatch, program)


def test_a_child_that_hangs_is_ended(monkeypatch):
    with pytest.raises(LimitExceededError, match="seconds"):
        answers(monkeypatch, "while True: pass", max_seconds=0.3)


@POSIX
def test_a_child_that_takes_too_much_processor_time(monkeypatch):
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (0, 1))\n"
        "while True: pass"
    )
    with pytest.raises(LimitExceededError, match="processor time"):
        answers(monkeypatch, program)


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit(3)",
        "1 / 0",
        "print('no JSON')",
        "print('[1]')",
        "print('{}')",
        "print('null')",
        'print(\'{"report": null, "error": null}\')',
        'print(\'{"report": {"title": 1}, "error": null}\')',
        'print(\'{"report": null, "error": {"type": "nothing"}}\')',
    ],
)
def test_an_answer_that_is_none(monkeypatch, program):
    with pytest.raises(ArtifactError, match=r"Received"):
        answers(monkeypatch, program)


@pytest.mark.parametrize("kind", ["eval", "__builtins__", "TYPE_CHECKING"])
def test_only_our_errors_are_made_from_an_answer(monkeypatch, kind):
    error = {"type": kind, "arguments": ["Expected x. Received: y"]}
    answer = json.dumps({"report": None, "error": error})
    with pytest.raises(SqueezeError, match="Received"):
        answers(monkeypatch, f"print({answer!r})")


def constant_file(size):
    """Half a gigabyte of zeros from no byte at all, as the format allows."""
    return handmade_files.bomb("constant", b"", [size], "int8")


@POSIX
def test_memory_is_bounded(path):
    limits = Isolation(max_memory_bytes=300 << 20)
    assert verify_isolated(path, isolation=limits).totals["ok"]
    bomb = path.parent / "bomb.h5"
    bomb.write_bytes(constant_file(1 << 29))
    with pytest.raises(LimitExceededError, match="memory"):
        verify_isolated(bomb, isolation=limits)


@POSIX
def test_the_child_may_not_write_a_file(tmp_path):
    code = (
        "import sys; from keras_squeeze.artifact import isolated_child as c\n"
        "c._set_limits({'max_memory_bytes': 1 << 32, 'max_cpu_seconds': 9})\n"
        "try:\n"
        "    with open(sys.argv[1], 'wb') as file: file.write(b'x')\n"
        "except OSError as error: print(error.strerror)\n"
        "files = []\n"
        "try:\n"
        "    for _ in range(100): files.append(open(sys.executable))\n"
        "except OSError as error: print(len(files) < 40)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["File too large", "True"]


def test_what_keeps_the_parent_from_the_environment_of_the_file(path):
    """A module beside the file does not become part of the child."""
    trap = path.parent / "json.py"
    trap.write_text("raise SystemExit('trapped')")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path = [p for p in sys.path if p]\n"
            "import keras_squeeze as ks\n"
            "print(ks.verify(sys.argv[1], isolate=True).totals['ok'])",
            path.name,
        ],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    trap.unlink()
    assert done.stdout.strip() == "True"


# --- H7: other people's files -------------------------------------------------


def test_foreign_hdf5_files(tmp_path):
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(1000)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in (len(data), 100, 700):
        changed = bytearray(data[:cut])
        for place in rng.integers(0, cut, 3):
            changed[place] ^= 255
        path.write_bytes(changed)
        assert verdict(path) is not None


def test_the_public_corpus_of_harmful_files():
    folder = os.environ.get("SQUEEZE_HDF5_CORPUS")
    if not folder:
        pytest.skip("no corpus: set SQUEEZE_HDF5_CORPUS")
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    assert files
    for path in files:
        assert isinstance(verdict(path), ArtifactError | Report)


def verdict(path):
    try:
        return verify_isolated(path, isolation=Isolation(max_seconds=60))
    except ArtifactError as error:
        return error


def test_an_encrypted_file_without_its_key(path, tmp_path):
    pytest.importorskip("cryptography")
    from keras_squeeze.artifact.encryption import encrypt_file

    locked = tmp_path / "a.h5.enc"
    encrypt_file(path, locked, bytes(range(32)))
    access = Access(key=bytes(range(32)))
    assert verify_isolated(locked, access).totals["ok"]
    with pytest.raises(DecryptionError):
        verify_isolated(locked)
