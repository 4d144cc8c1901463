"""A disk that is truly full: a small tmpfs, mounted here, at every stage.

What is free is cut down page by page, so that one run is out of space in the
folder of parts, another in the new file, another in its last piece. Where
mounting is not permitted the tests are skipped; `test_writing` has the same
with a limit on the size of files.
"""

import os
import re
import shutil
import subprocess
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput, packing, parts
from keras_squeeze.bridges.exporting import export_file
from keras_squeeze.cli import main
from keras_squeeze.errors import SqueezeError

PAGE = 4096
PAGES = 64
INODES = 24
KEY = bytes(range(32))
FULL = r"Received: .*No space left on device"


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """The path of a tmpfs of 64 pages and 24 inodes."""
    folder = tmp_path_factory.mktemp("disk")
    options = f"size={PAGES * PAGE},nr_inodes={INODES},mode=700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a tmpfs is not permitted")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(autouse=True)
def empty(disk):
    yield
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def tensors(seed):
    """About thirteen pages, in three tensors."""
    rng = np.random.default_rng(seed)
    return [
        TensorInput.from_values(f"t{i}", rng.integers(0, 256, 18_000, "u1"))
        for i in range(3)
    ]


def write(path, seed, **options):
    artifact.write(
        str(path),
        tensors(seed),
        {},
        keras_version="3.15.1",
        profile="fast",
        **options,
    ).close()


@contextmanager
def free(disk, pages=None, inodes=None):
    """Fills the disk but for so many pages, or so many inodes."""
    filler = disk / "filler"
    filler.mkdir()
    status = os.statvfs(disk)
    try:
        if pages is not None:
            taken = max(0, status.f_bavail - pages)
            (filler / "bytes").write_bytes(bytes(taken * PAGE))
            assert os.statvfs(disk).f_bavail <= pages
        if inodes is not None:
            for i in range(status.f_favail - inodes):
                (filler / str(i)).touch()
            assert os.statvfs(disk).f_favail <= inodes
        yield
    finally:
        shutil.rmtree(filler)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def survey(disk):
    """All that lies on the disk but for the filler."""
    return {
        path.name: path.read_bytes() if path.is_file() else None
        for path in disk.iterdir()
        if path.name != "filler"
    }


def attempts(disk, task, scarce, most):
    """Runs a task with 0, 1, 2 ... pages or inodes free until it succeeds.

    Every failure must say what is the matter and leave all as it was. Gives
    the number of failures.
    """
    before, opened = survey(disk), descriptors()
    for amount in range(most):
        with free(disk, **{scarce: amount}):
            try:
                task()
            except SqueezeError as error:
                message = str(error)
            else:
                return amount
            assert message.startswith("Expected")
            assert re.search(FULL, message), message
            assert survey(disk) == before, amount
            assert descriptors() == opened, amount
    raise AssertionError(f"still failing with {most} {scarce} free")


EXPORTS = {
    "in memory": {},
    "in parts": {"memory": 0},
    "without resume": {"memory": 0, "resume": False},
    "encrypted": {"encryption_key": KEY},
    "encrypted in parts": {"memory": 0, "encryption_key": KEY},
}


@pytest.mark.parametrize("scarce", ["pages", "inodes"])
@pytest.mark.parametrize("kind", EXPORTS)
def test_an_export_to_a_full_disk(disk, monkeypatch, kind, scarce):
    options = dict(EXPORTS[kind])
    monkeypatch.setattr(parts, "MEMORY_BYTES", options.pop("memory", 1 << 25))
    if "encryption_key" in options:
        pytest.importorskip("cryptography")
    path = disk / "a.h5"
    write(path, 1, **options)
    failed = attempts(disk, lambda: write(path, 2, **options), scarce, 40)
    # The new file lies beside the old one, and the parts beside both.
    least = {"pages": 13, "inodes": 2}[scarce]
    assert failed > (2 * least if "in parts" in kind else least)
    assert os.listdir(disk) == ["a.h5"]
    access = artifact.access.Access(key=options.get("encryption_key"))
    with artifact.read(path, access=access) as opened:
        for item in tensors(2):
            assert (opened.decode(item.name) == item.decode()).all()


def test_a_resumed_export_to_a_full_disk(disk, monkeypatch):
    """What was there for it is gone with it: it only makes matters worse."""
    monkeypatch.setattr(parts, "MEMORY_BYTES", 0)
    path = disk / "a.h5"
    write(path, 1)
    before = survey(disk)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packing, "write_atomically", interrupt)
        write(path, 2)
    assert set(survey(disk)) == {"a.h5", ".a.h5.parts"}
    with free(disk, pages=3), pytest.raises(SqueezeError, match=FULL):
        write(path, 2)
    assert survey(disk) == before


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def recode(disk):
    write(disk / "a.h5", 1)
    return lambda: artifact.recode(disk / "a.h5", disk / "a.h5", "fast")


def apply(disk):
    write(disk / "base.h5", 1)
    with artifact.read(disk / "base.h5") as base:
        write(disk / "change.h5", 1, base=base)
    write(disk / "a.h5", 2)
    paths = [disk / f"{name}.h5" for name in ("change", "base", "a")]
    return lambda: artifact.apply(*paths, profile="fast")


def sign(disk):
    pytest.importorskip("cryptography")
    artifact.generate_keys(disk / "private.pem", disk / "public.pem")
    write(disk / "a.h5", 1)
    artifact.sign(disk / "a.h5", disk / "private.pem")
    write(disk / "a.h5", 2)
    return lambda: artifact.sign(disk / "a.h5", disk / "private.pem")


def make_keys(disk):
    pytest.importorskip("cryptography")
    paths = disk / "private.pem", disk / "public.pem"
    return lambda: artifact.generate_keys(*paths)


def export_weights(disk):
    write(disk / "a.h5", 1)
    values = np.random.default_rng(2).normal(size=9_000).astype("f4")
    with h5py.File(disk / "m.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = values
    return lambda: export_file(
        disk / "m.weights.h5", disk / "a.h5", profile="fast"
    )


@pytest.mark.parametrize("scarce", ["pages", "inodes"])
@pytest.mark.parametrize(
    ("prepare", "least"),
    [(recode, 13), (apply, 13), (sign, 1), (make_keys, 1), (export_weights, 8)],
)
def test_other_commands_on_a_full_disk(disk, prepare, least, scarce):
    task = prepare(disk)
    failed = attempts(disk, task, scarce, 30)
    assert failed >= (least if scarce == "pages" else 2)


def test_encryption_to_a_full_disk(disk):
    pytest.importorskip("cryptography")
    from keras_squeeze.artifact.encryption import encrypt_file

    write(disk / "a.h5", 1)
    with free(disk, pages=5), pytest.raises(OSError, match="No space left"):
        encrypt_file(disk / "a.h5", disk / "b.h5.enc", KEY)
    assert os.listdir(disk) == ["a.h5"]


def test_a_disk_that_is_read_only(disk):
    """Even for root, whom a folder's mode does not keep from writing."""
    write(disk / "a.h5", 1)
    before, opened = survey(disk), descriptors()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        for path in (disk / "a.h5", disk / "b.h5"):
            with pytest.raises(SqueezeError, match="writable folder"):
                write(path, 2)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert survey(disk) == before and descriptors() == opened


def test_the_command_says_that_the_disk_is_full(disk, capsys):
    write(disk / "a.h5", 1)
    before = survey(disk)
    arguments = ["recode", str(disk / "a.h5"), str(disk / "b.h5")]
    with free(disk, pages=4):
        assert main([*arguments, "--quiet"]) == 1
    assert re.search(FULL, capsys.readouterr().err)
    assert survey(disk) == before
