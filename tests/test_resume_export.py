"""A killed export goes on from the parts it left, to the same bytes."""

import errno
import functools
import os
import shutil
import signal

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput, coding, ownership, parts
from keras_squeeze.artifact.coding import DeferredTensor
from keras_squeeze.errors import CorruptArtifactError, SqueezeError

MODEL = {"class_name": "Sequential", "name": "m", "config": None}


@pytest.fixture(autouse=True)
def no_parts_in_memory(monkeypatch):
    monkeypatch.setattr(parts, "MEMORY_BYTES", 0)


@pytest.fixture
def encoded(monkeypatch):
    """Names of the tensors that are encoded."""
    names, encode = [], coding.encode_tensor

    def record(tensor, *args):
        names.append(tensor.name)
        return encode(tensor, *args)

    monkeypatch.setattr(coding, "encode_tensor", record)
    return names


def tensors(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return [
        TensorInput.from_values(f"t{i}", rng.normal(size=500).astype("f4"))
        for i in range(count)
    ]


def write(path, items, **options):
    written = artifact.write(
        path, items, MODEL, keras_version="3.15.1", **options
    )
    written.close()
    return path.read_bytes()


def interrupted(items, after, error=KeyboardInterrupt):
    """The items, and `error` when the one at `after` is asked for."""

    def fail():
        raise error

    yield from items[:after]
    yield DeferredTensor(items[after].name, fail)
    yield from items[after + 1 :]


def interrupt(path, items, after, error=KeyboardInterrupt, **options):
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises((kind, SqueezeError)):
        write(path, interrupted(items, after, error), **options)
    assert not path.exists()


def left(path):
    folder = path.parent / f".{path.name}.parts"
    return sorted(folder.glob("*.part")) if folder.exists() else []


def test_only_the_rest_is_encoded_to_the_same_bytes(tmp_path, encoded):
    expected = write(tmp_path / "whole.h5", tensors())
    path = tmp_path / "a.h5"
    interrupt(path, tensors(), 4)
    assert len(left(path)) == 4
    encoded.clear()
    assert write(path, tensors()) == expected
    assert encoded == ["t4", "t5"]
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "whole.h5"]


def test_bytes_do_not_depend_on_where_parts_wait(tmp_path, monkeypatch):
    in_files = write(tmp_path / "a.h5", tensors())
    monkeypatch.setattr(parts, "MEMORY_BYTES", 1 << 30)
    assert write(tmp_path / "b.h5", tensors()) == in_files


def test_small_models_never_make_a_folder_of_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MEMORY_BYTES", 1 << 20)
    interrupt(tmp_path / "a.h5", tensors(), 4)
    assert os.listdir(tmp_path) == []


def flip(found):
    content = bytearray(found.read_bytes())
    content[-3] ^= 1
    found.write_bytes(content)


def truncate(found):
    found.write_bytes(found.read_bytes()[:-5])


def empty(found):
    found.write_bytes(b"")


def swap(found):
    other = next(p for p in found.parent.glob("*.part") if p != found)
    shutil.copy(other, found)


@pytest.mark.parametrize("damage", [flip, truncate, empty, swap])
def test_a_damaged_or_foreign_part_is_made_again(tmp_path, encoded, damage):
    expected = write(tmp_path / "whole.h5", tensors())
    path = tmp_path / "a.h5"
    interrupt(path, tensors(), 4)
    damage(left(path)[0])
    encoded.clear()
    assert write(path, tensors()) == expected
    assert len(encoded) == 3


def test_a_forged_part_never_gets_into_a_file(tmp_path, encoded):
    path = tmp_path / "a.h5"
    interrupt(path, tensors(), 1)
    [part] = left(path)
    forged, key = tensors(seed=1)[0], part.stem
    parts._write_part(
        str(part), key, coding.encode_tensor(forged, "auto"), None
    )
    with pytest.raises(CorruptArtifactError, match="'t0'"):
        write(path, tensors())
    assert os.listdir(tmp_path) == []
    write(path, tensors())


@pytest.mark.parametrize(
    ("items", "options"),
    [
        (tensors(seed=1), {}),
        (tensors(), {"profile": "fast"}),
        (tensors(), {"base": True}),
    ],
)
def test_parts_of_something_else_are_ignored(tmp_path, encoded, items, options):
    if "base" in options:
        write(tmp_path / "base.h5", tensors(seed=2))
        options = {"base": artifact.read(tmp_path / "base.h5")}
    path = tmp_path / "a.h5"
    interrupt(path, tensors(), 5)
    encoded.clear()
    write(path, items, **options)
    assert len(encoded) == 6
    assert left(path) == []


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (KeyboardInterrupt, {"resume": False}),
        (SqueezeError("Expected x. Received: y"), {}),
        (OSError(errno.ENOSPC, "No space left on device"), {}),
        (KeyboardInterrupt, {"encryption_key": b"k" * 32}),
    ],
)
def test_where_parts_are_of_no_use_none_stay(tmp_path, error, options):
    if "encryption_key" in options:
        pytest.importorskip("cryptography")
    interrupt(tmp_path / "a.h5", tensors(), 4, error, **options)
    assert os.listdir(tmp_path) == []


def test_parts_that_others_could_have_written_are_not_used(tmp_path, encoded):
    path = tmp_path / "a.h5"
    interrupt(path, tensors(), 4)
    folder = tmp_path / ".a.h5.parts"
    folder.chmod(0o777)
    encoded.clear()
    write(path, tensors())
    assert len(encoded) == 6
    assert folder.exists()


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".a.h5.parts").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "a.h5", tensors())
    assert os.listdir(tmp_path / "elsewhere") == []


def test_two_exports_at_once_do_not_share_parts(tmp_path, encoded):
    path = tmp_path / "a.h5"
    interrupt(path, tensors(), 4)
    owner = ownership.claim(str(tmp_path / ".a.h5.parts"))
    encoded.clear()
    write(path, tensors())
    assert len(encoded) == 6
    assert len(left(path)) == 4
    owner.release()


def test_nothing_unencrypted_is_ever_on_the_disk(tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    secret = np.random.default_rng(0).integers(0, 256, 4096).astype("u1")
    seen = []

    def look():
        for name in tmp_path.rglob("*"):
            if name.is_file():
                seen.append(name.name)
                assert secret.tobytes()[:64] not in name.read_bytes()
        return TensorInput.from_values("b", np.zeros(3, "f4"))

    replace = os.replace

    def look_and_replace(*args):
        look()
        replace(*args)

    monkeypatch.setattr(os, "replace", look_and_replace)
    items = [TensorInput.from_values("a", secret), DeferredTensor("b", look)]
    content = write(tmp_path / "a.h5.enc", items, encryption_key=b"k" * 32)
    look()
    assert {"lock", "new", "a.h5.enc"} <= set(seen)
    assert any(name.endswith(".part") for name in seen)
    access = artifact.access.Access(key=b"k" * 32)
    opened = artifact.read(tmp_path / "a.h5.enc", access=access)
    np.testing.assert_array_equal(opened.decode("a"), secret)
    assert b"Sequential" not in content


def test_a_killed_export_is_resumed(tmp_path, encoded):
    expected = write(tmp_path / "whole.h5", tensors(40))
    path = tmp_path / "a.h5"
    reader, writer = os.pipe()

    def announce(tensor):
        os.write(writer, b"x")
        return tensor

    child = os.fork()
    if child == 0:
        items = [
            DeferredTensor(t.name, functools.partial(announce, t))
            for t in tensors(40)
        ]
        write(path, items)
        os._exit(0)
    for _ in range(20):
        os.read(reader, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for descriptor in (reader, writer):
        os.close(descriptor)
    encoded.clear()
    assert write(path, tensors(40)) == expected
    assert len(encoded) <= 21
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "whole.h5"]
