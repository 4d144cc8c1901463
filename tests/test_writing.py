"""The target is the old file or the complete new one, whatever happens."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.writing import write_atomically
from keras_squeeze.errors import (
    ArtifactError,
    ArtifactExistsError,
    CorruptArtifactError,
)


def write(path, value=1.0, **kwargs):
    values = np.full(5, value, "float32")
    return artifact.write(
        str(path),
        [TensorInput.from_values("w", values)],
        {"class_name": "Sequential", "name": "m", "config": None},
        keras_version="3.15.1",
        **kwargs,
    )


def test_existing_files_are_kept_unless_told(tmp_path):
    write(tmp_path / "a.h5", 1.0)
    with pytest.raises(ArtifactExistsError, match="overwrite"):
        write(tmp_path / "a.h5", 2.0, overwrite=False)
    assert artifact.read(tmp_path / "a.h5").decode("w")[0] == 1.0
    write(tmp_path / "a.h5", 2.0)
    assert artifact.read(tmp_path / "a.h5").decode("w")[0] == 2.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.keras", r"ends in \.h5"),
        ("a.weights.h5", "own weight files"),
        ("missing/a.h5", "existing, writable folder"),
        ("folder.h5", "regular file"),
    ],
)
def test_targets_that_cannot_be_written(tmp_path, name, message):
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(ArtifactError, match=message) as caught:
        write(tmp_path / name)
    assert f"Received: {tmp_path / name}" in str(caught.value)


@pytest.mark.parametrize("function", ["fsync", "replace", "chmod"])
def test_a_failing_system_call_leaves_the_old_file(
    tmp_path, monkeypatch, function
):
    write(tmp_path / "a.h5", 1.0)
    before = (tmp_path / "a.h5").read_bytes()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(ArtifactError, match="No space left"):
            write(tmp_path / "a.h5", 2.0)
    assert (tmp_path / "a.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_file_that_does_not_verify_never_takes_the_place(tmp_path):
    write(tmp_path / "a.h5", 1.0)

    def refuse(path):
        raise CorruptArtifactError("Expected x. Received: y")

    with pytest.raises(CorruptArtifactError):
        write_atomically(
            str(tmp_path / "a.h5"),
            lambda path: open(path, "w").close(),
            refuse,
        )
    assert artifact.read(tmp_path / "a.h5").decode("w")[0] == 1.0
    assert os.listdir(tmp_path) == ["a.h5"]


def test_the_order_of_durability(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        kind = os.fstat(descriptor).st_mode
        calls.append("folder" if stat.S_ISDIR(kind) else "file")
        fsync(descriptor)

    def record_replace(*args):
        calls.append("replace")
        replace(*args)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write(tmp_path / "a.h5")
    assert calls == ["file", "replace", "folder"]


def test_mode_is_kept_and_links_are_followed(tmp_path):
    write(tmp_path / "a.h5", 1.0)
    os.chmod(tmp_path / "a.h5", 0o640)
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    write(tmp_path / "link.h5", 2.0)
    assert stat.S_IMODE((tmp_path / "a.h5").stat().st_mode) == 0o640
    assert (tmp_path / "link.h5").is_symlink()
    assert artifact.read(tmp_path / "a.h5").decode("w")[0] == 2.0


WRITER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from keras_squeeze import artifact
    from keras_squeeze.artifact import TensorInput
    print("ready", flush=True)
    value = 0
    while True:
        value += 1
        artifact.write(
            sys.argv[1],
            [TensorInput.from_values("w", np.full(50_000, value, "float32")),
             TensorInput.from_values("n", np.random.default_rng(value)
                .normal(size=50_000).astype("float32"))],
            {"class_name": "Sequential", "name": "m", "config": None},
            keras_version="3.15.1",
        )
    """
)


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.h5"
    write(path)
    writer = [sys.executable, "-c", WRITER, str(path)]
    for attempt in range(5):
        process = subprocess.Popen(writer, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.05 + 0.061 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert artifact.verify(path).totals["ok"]
