"""The target is the old file or the complete new one, whatever happens."""

import errno
import functools
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput, parts
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


def test_the_umask_applies_to_a_new_file(tmp_path):
    former = os.umask(0o027)
    try:
        write(tmp_path / "a.h5")
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "a.h5").stat().st_mode) == 0o640


def test_another_name_of_the_old_file_keeps_the_old_content(tmp_path):
    write(tmp_path / "a.h5", 1.0)
    os.link(tmp_path / "a.h5", tmp_path / "b.h5")
    write(tmp_path / "a.h5", 2.0)
    assert artifact.read(tmp_path / "a.h5").decode("w")[0] == 2.0
    assert artifact.read(tmp_path / "b.h5").decode("w")[0] == 1.0


@pytest.mark.parametrize(
    "name", ["ü" * 126 + ".h5", "x" * 252 + ".h5", " a b\n.h5", "-rf.h5"]
)
def test_any_name_that_the_file_system_takes(tmp_path, name):
    write(tmp_path / name, 1.0)
    write(tmp_path / name, 2.0)
    assert os.listdir(tmp_path) == [name]
    assert artifact.read(tmp_path / name).decode("w")[0] == 2.0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="writable folder"):
        write(tmp_path / "a.h5")


def test_what_killed_writers_left_is_removed(tmp_path):
    for number in range(3):
        folder = tmp_path / f".tmp-{number:08x}-a.h5"
        folder.mkdir(mode=0o700)
        (folder / "lock").touch()
        (folder / "new.h5").write_bytes(b"half")
    (tmp_path / ".tmp-00000009-b.h5").mkdir(mode=0o700)
    write(tmp_path / "a.h5")
    assert sorted(os.listdir(tmp_path)) == [".tmp-00000009-b.h5", "a.h5"]


# --- faults at each call to the operating system ----------------------------

CALLS = ("mkdir", "open", "listdir", "chmod", "fsync", "stat", "replace")


class FaultyFile:
    def __init__(self, file, fault):
        self._file, self._fault = file, fault

    def write(self, data):
        self._fault("write")
        return self._file.write(data)

    def writelines(self, pieces):
        for piece in pieces:
            self.write(piece)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()
        if exception[0] is None:
            self._fault("close")

    def __getattr__(self, name):
        return getattr(self._file, name)


def with_fault_at(monkeypatch, place, number):
    """Lets the call of that place fail once; gives the calls that came."""
    calls = []

    def fault(name):
        calls.append(name)
        if len(calls) == place:
            raise OSError(number, os.strerror(number))

    def faulty(name, function):
        def call(*args, **kwargs):
            fault(name)
            return function(*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, faulty(name, getattr(os, name)))
    unpatched = open

    def faulty_open(path, mode="r", *args, **kwargs):
        file = unpatched(path, mode, *args, **kwargs)
        return FaultyFile(file, fault) if set(mode) & set("wx") else file

    monkeypatch.setattr("builtins.open", faulty_open)
    return calls


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("large", [False, True])
def test_a_fault_at_any_call_leaves_the_old_file(
    tmp_path, monkeypatch, number, large
):
    if large:
        monkeypatch.setattr(parts, "MEMORY_BYTES", 0)
    write(tmp_path / "a.h5", 1.0)
    before = (tmp_path / "a.h5").read_bytes()
    descriptors = len(os.listdir("/proc/self/fd"))
    failed = 0
    for place in range(1, 200):
        with monkeypatch.context() as patch:
            calls = with_fault_at(patch, place, number)
            try:
                write(tmp_path / "a.h5", 2.0).close()
            except ArtifactError:
                failed += 1
                renamed = "replace" in calls[: place - 1]
            else:
                renamed = True
        if len(calls) < place:
            break
        # After the renaming only the folder was left to be flushed.
        if not renamed:
            assert (tmp_path / "a.h5").read_bytes() == before, calls[-1]
        assert artifact.verify(tmp_path / "a.h5").totals["ok"]
        assert len(os.listdir("/proc/self/fd")) == descriptors
        # What could not be removed is, by the next one.
        write(tmp_path / "a.h5", 1.0).close()
        assert os.listdir(tmp_path) == ["a.h5"], calls[-1]
    assert failed > 6
    assert {"write", "fsync", "replace", "mkdir"} <= set(calls)


FULL_DISK = textwrap.dedent(
    """
    import resource, signal, sys
    import numpy as np
    from keras_squeeze import artifact
    from keras_squeeze.artifact import TensorInput, parts
    from keras_squeeze.errors import ArtifactError
    path, limit, parts.MEMORY_BYTES = sys.argv[1], *map(int, sys.argv[2:])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    noise = np.random.default_rng(0).normal(size=20_000).astype("float32")
    try:
        artifact.write(path, [TensorInput.from_values("w", noise)], {},
                       keras_version="3.15.1")
    except ArtifactError as error:
        print("refused", error)
    """
)


@pytest.mark.parametrize("memory", [0, 1 << 25])
@pytest.mark.parametrize("limit", [0, 1000, 30_000])
def test_a_full_disk_leaves_the_old_file(tmp_path, memory, limit):
    write(tmp_path / "a.h5")
    before = (tmp_path / "a.h5").read_bytes()
    arguments = [str(tmp_path / "a.h5"), str(limit), str(memory)]
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *arguments],
        capture_output=True,
        text=True,
    )
    assert child.stdout.startswith("refused"), child.stderr
    assert (tmp_path / "a.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


# --- killed writers, readers beside a writer --------------------------------


def fork(task):
    """Runs a task in a child of this process; gives the child's id."""
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write_versions(path, first=1, last=1 << 30, memory=1 << 25):
    parts.MEMORY_BYTES = memory
    for value in range(first, last):
        noise = np.random.default_rng(value).normal(size=5_000).astype("f4")
        artifact.write(
            path,
            [
                TensorInput.from_values("w", np.full(5_000, value, "f4")),
                TensorInput.from_values("n", noise),
            ],
            {"class_name": "Sequential", "name": "m", "config": None},
            keras_version="3.15.1",
        ).close()


def check_killed_writers(path, count):
    write(path)
    rng = random.Random(0)
    for attempt in range(count):
        memory = (1 << 25) * (attempt % 2)
        child = fork(functools.partial(write_versions, path, memory=memory))
        time.sleep(rng.uniform(0, 0.2))
        os.kill(child, signal.SIGKILL)
        assert exit_code(child) == -signal.SIGKILL
        assert artifact.verify(path).totals["ok"]
        left = {p.name for p in path.parent.iterdir()} - {path.name}
        assert all(n.startswith(".tmp-") or n == ".a.h5.parts" for n in left)
    write(path)
    assert os.listdir(path.parent) == [path.name]


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    check_killed_writers(tmp_path / "a.h5", 12)


@pytest.mark.slow
@pytest.mark.skipif(
    "KERAS_SQUEEZE_ROUNDS" not in os.environ,
    reason="some minutes; the test above kills a dozen",
)
def test_500_killed_writers(tmp_path):
    check_killed_writers(tmp_path / "a.h5", 500)


def exit_before(place):
    """Lets the process end in the place of a call to the system."""
    calls = []

    def exiting(function):
        def call(*args, **kwargs):
            calls.append(function)
            if len(calls) == place:
                os._exit(9)
            return function(*args, **kwargs)

        return call

    for name in ("mkdir", "chmod", "fsync", "replace", "unlink", "rmdir"):
        setattr(os, name, exiting(getattr(os, name)))


@pytest.mark.parametrize("memory", [0, 1 << 25])
def test_a_process_that_ends_before_any_call(tmp_path, memory):
    path = tmp_path / "a.h5"
    write(path)
    codes = []
    for place in range(1, 30):

        def end(place=place):
            exit_before(place)
            write_versions(path, 2, 3, memory)

        codes.append(exit_code(fork(end)))
        assert artifact.verify(path).totals["ok"]
        if codes[-1] == 0:
            break
    assert codes[:6] == [9] * 6
    assert codes[-1] == 0
    write(path)
    assert os.listdir(tmp_path) == ["a.h5"]


READER = textwrap.dedent(
    """
    import os, sys, time
    from keras_squeeze import artifact
    print("ready", flush=True)
    while not os.path.exists(sys.argv[2]):
        with artifact.read(sys.argv[1]) as opened:
            values = opened.decode("w")
            assert (values == values[0]).all()
        time.sleep(0.01)
    """
)


def test_readers_see_a_whole_version_each_time(tmp_path):
    path, stop = tmp_path / "a.h5", tmp_path / "stop"
    write(path)
    child = [sys.executable, "-c", READER, str(path), str(stop)]
    children = [
        subprocess.Popen(child, stdout=subprocess.PIPE) for _ in range(2)
    ]
    for process in children:
        process.stdout.readline()
    counts = [0] * 14

    def read(number):
        while not stop.exists():
            with artifact.read(path) as opened:
                values = opened.decode("w")
                assert (values == values[0]).all()
            counts[number] += 1
            time.sleep(0.05)

    with ThreadPoolExecutor(14) as threads:
        readings = [threads.submit(read, number) for number in range(14)]
        for value in range(100):
            write(path, float(value)).close()
        stop.touch()
        for reading in readings:
            reading.result()
    assert all(process.wait() == 0 for process in children)
    for process in children:
        process.stdout.close()
    assert min(counts) > 0


@pytest.mark.parametrize("memory", [0, 1 << 25])
def test_two_writers_of_one_file(tmp_path, memory):
    path = tmp_path / "a.h5"
    children = [
        fork(
            functools.partial(
                write_versions, path, first, first + 12, memory=memory
            )
        )
        for first in (100, 200)
    ]
    assert [exit_code(child) for child in children] == [0, 0]
    assert artifact.read(path).decode("w")[0] in (111, 211)
    assert os.listdir(tmp_path) == ["a.h5"]
