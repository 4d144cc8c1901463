"""What a killed writer left is told from what a living one works on."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import pytest

from keras_squeeze.artifact import ownership
from keras_squeeze.artifact.ownership import (
    claim,
    remove_abandoned,
    temporary_folder,
)

fcntl = pytest.importorskip("fcntl")

ABANDON = (
    "import os, sys; from keras_squeeze.artifact import ownership as o; "
    "folder = o.temporary_folder(sys.argv[1]); "
    "open(folder.join('new'), 'w').close(); print(folder.path); "
    "sys.stdout.flush(); os._exit(9)"
)


def test_what_a_dead_process_left_is_removed(tmp_path):
    target = str(tmp_path / "a.h5")
    child = subprocess.run(
        [sys.executable, "-c", ABANDON, target], capture_output=True, text=True
    )
    folder = child.stdout.strip()
    assert os.listdir(folder)
    remove_abandoned(str(tmp_path / "b.h5"))
    assert os.path.exists(folder), "another target's"
    remove_abandoned(target)
    assert os.listdir(tmp_path) == []


def test_what_a_living_process_holds_stays(tmp_path):
    target = str(tmp_path / "a.h5")
    with temporary_folder(target) as folder:
        remove_abandoned(target)
        assert os.path.exists(folder.path)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_emptied_is_by_the_next(tmp_path, monkeypatch):
    """Without its lock nobody would ever take it for abandoned."""
    target = str(tmp_path / "a.h5")
    folder = temporary_folder(target)
    open(folder.join("new"), "w").close()
    with monkeypatch.context() as patch:
        patch.setattr(ownership, "_remove", lambda path: None)
        folder.remove()
    assert sorted(os.listdir(folder.path)) == ["lock", "new"]
    remove_abandoned(target)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "make", [temporary_folder, lambda target: claim(target + ".parts")]
)
def test_a_folder_that_cannot_be_locked_is_gone(tmp_path, monkeypatch, make):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", refuse)
    with contextlib.suppress(OSError):
        assert make(str(tmp_path / "a.h5")) is None
    assert os.listdir(tmp_path) == []


def test_the_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        temporary_folder(str(tmp_path / "none" / "a.h5"))


def test_a_folder_is_claimed_by_one_at_a_time(tmp_path):
    path = str(tmp_path / "parts")
    first = claim(path)
    assert claim(path) is None
    first.release()
    second = claim(path)
    assert second is not None
    second.remove()
    assert not os.path.exists(path)


def test_a_forked_worker_holds_no_lock(tmp_path):
    folder = claim(str(tmp_path / "parts"))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    folder.release()
    again = claim(str(tmp_path / "parts"))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for descriptor in (reader, writer):
        os.close(descriptor)
    assert again is not None
    again.remove()


def test_a_new_folder_that_was_taken_for_abandoned_is_made_anew(
    tmp_path, monkeypatch
):
    target, flock = str(tmp_path / "a.h5"), fcntl.flock
    removed = []

    def removed_before_it_is_locked(descriptor, flags):
        if not removed:
            removed.append(True)
            monkeypatch.setattr(fcntl, "flock", flock)
            remove_abandoned(target)
        flock(descriptor, flags)

    monkeypatch.setattr(fcntl, "flock", removed_before_it_is_locked)
    with temporary_folder(target) as folder:
        assert removed
        assert os.path.exists(folder.join("lock"))


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(descriptor, flags):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    target = str(tmp_path / "a.h5")
    assert claim(str(tmp_path / "parts")) is None
    with temporary_folder(target) as folder:
        remove_abandoned(target)
        assert os.path.exists(folder.path)


def test_long_and_foreign_names(tmp_path):
    for name in ("x" * 252 + ".h5", "ü" * 126 + ".h5"):
        target = str(tmp_path / name)
        with temporary_folder(target) as folder:
            assert len(os.path.basename(folder.path).encode()) < 256
        parts = claim(ownership.parts_path(target))
        assert len(os.path.basename(parts.path).encode()) < 256
        parts.remove()
    assert os.listdir(tmp_path) == []
