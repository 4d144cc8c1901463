"""HDF5 files that are damaged on purpose, as in the published attacks.

Two files of h5py, one with symbol tables and local heaps and one with fractal
heaps and B-trees of version 2, and one of ours: in each, one structure after
the other is made to lie, with checksums that match. The reader must refuse all
of them, in this process and in a child.
"""

import os
import tracemalloc

import h5py
import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact.isolation import Isolation, verify_isolated
from keras_squeeze.artifact.lookup3 import lookup3
from keras_squeeze.errors import ArtifactError
from tests.handmade_files import raw_file
from tests.hdf5_builder import regions_of_metadata, reseal

ALL_ONES = b"\xff" * 8
HUGE = (1 << 62).to_bytes(8, "little")


def fill(file):
    """Groups, attributes and datasets of all kinds of storage."""
    for layer in range(9):
        group = file.create_group(f"layers/dense_{layer}/vars")
        group["0"] = np.arange(12.0)
    group.create_dataset("1", (64, 64), "f4", chunks=(8, 8), compression=4)
    group["1"][...] = 1.5
    group["text"] = np.array(["a", "bc"], h5py.string_dtype())
    group["records"] = np.zeros(3, [("x", "f4"), ("y", "i8")])
    for number in range(20):
        file.attrs[f"attribute_{number}"] = "x" * 100


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Intact files by the format of what is in them."""
    folder = tmp_path_factory.mktemp("hdf5")
    for name, version in (("old", "earliest"), ("new", "latest")):
        with h5py.File(folder / name, "w", libver=version) as file:
            fill(file)
    ours = raw_file({"w": np.arange(200, dtype="u1")})
    found = {name: (folder / name).read_bytes() for name in ("old", "new")}
    return {**found, "ours": ours}


def places_of(data, signature):
    place, found = data.find(signature), []
    while place >= 0:
        found.append(place)
        place = data.find(signature, place + 1)
    return found


def sealed_size(data, start):
    """How many bytes from there the checksum behind them is of, if any."""
    sealed = (b"OHDR", b"FRHP", b"BTHD")
    if data[start : start + 4] not in sealed and (start or data[8] < 2):
        return None
    for size in range(8, 2000):
        stored = int.from_bytes(data[start + size : start + size + 4], "little")
        if lookup3(data[start : start + size]) == stored:
            return size
    raise AssertionError(f"no checksum behind {data[start : start + 4]}")


def patch(data, start, offset, new):
    """Replaces bytes of the structure at `start`; seals it if it was."""
    out, size = bytearray(data), sealed_size(data, start)
    out[start + offset : start + offset + len(new)] = new
    if size is not None:
        checksum = lookup3(bytes(out[start : start + size]))
        out[start + size : start + size + 4] = checksum.to_bytes(4, "little")
    return bytes(out)


def at(signature, offset, new, which=0):
    """Changes a structure that a signature begins."""

    def change(data):
        start = places_of(data, signature)[which]
        return patch(data, start, offset, new)

    return change


def pointing_to_itself(signature, offset, which=0):
    def change(data):
        start = places_of(data, signature)[which]
        return patch(data, start, offset, start.to_bytes(8, "little"))

    return change


def superblock(offset, new):
    return lambda data: patch(data, 0, offset, new)


def every(signature, offset, new):
    def change(data):
        for start in places_of(data, signature):
            data = patch(data, start, offset, new)
        return data

    return change


def cut(signature, keep):
    return lambda data: data[: places_of(data, signature)[0] + keep]


def free_list_in_a_loop(data):
    """A local heap whose first free block is followed by itself."""
    heap = places_of(data, b"HEAP")[0]
    segment = int.from_bytes(data[heap + 24 : heap + 32], "little")
    data = patch(data, heap, 16, (8).to_bytes(8, "little"))
    block = (8).to_bytes(8, "little") + (16).to_bytes(8, "little")
    return data[: segment + 8] + block + data[segment + 24 :]


def old_root_header(data):
    return int.from_bytes(data[64:72], "little")


def old_header(offset, new):
    """Changes the root's object header of version 1."""

    def change(data):
        start = old_root_header(data) + offset
        return data[:start] + new + data[start + len(new) :]

    return change


def continued_in_itself(data):
    """The first message of the root's header: go on at this header."""
    start = old_root_header(data)
    message = b"\x10\0\x10\0\0\0\0\0" + start.to_bytes(8, "little")
    message += (500).to_bytes(8, "little")
    return data[: start + 16] + message + data[start + 16 + len(message) :]


def message_of_ours(kind, change):
    """Changes the first message of a kind in our own headers, resealed."""

    def patched(data):
        regions = regions_of_metadata(data)
        for start, stop in regions:
            for place in range(start, stop - 8):
                if data[place] == kind and change(data, place) is not None:
                    out = change(data, place)
                    return reseal(out, regions)
        raise AssertionError(f"no message {kind:#x}")

    return patched


def longer_than_its_header(data, place):
    return data[: place + 1] + b"\xff\xff" + data[place + 3 :]


def cut_in_our_metadata(data):
    start, stop = regions_of_metadata(data)[1]
    return data[: (start + stop) // 2]


ATTACKS = {
    "old": {
        "superblock of version 255": superblock(8, b"\xff"),
        "offsets of no bytes": superblock(13, b"\0"),
        "offsets of 200 bytes": superblock(13, b"\xc8"),
        "lengths of 255 bytes": superblock(14, b"\xff"),
        "a group's leaves of 65,535": superblock(16, b"\xff\xff"),
        "base address beyond the file": superblock(24, HUGE),
        "end beyond the file": superblock(40, HUGE),
        "driver block at the start": superblock(48, bytes(8)),
        "root header at the superblock": superblock(64, bytes(8)),
        "root header beyond the file": superblock(64, HUGE),
        "scratch pad that lies": superblock(80, ALL_ONES * 2),
        "header of 65,535 messages": old_header(2, b"\xff\xff"),
        "header of 4 GiB": old_header(8, b"\xff\xff\xff\xff"),
        "message longer than its header": old_header(18, b"\xff\xff"),
        "header continued in itself": continued_in_itself,
        "B-tree of level 255": at(b"TREE", 5, b"\xff"),
        "B-tree of 65,535 entries": at(b"TREE", 6, b"\xff\xff"),
        "B-tree that is its own sibling": pointing_to_itself(b"TREE", 16),
        "B-tree that is its own child": pointing_to_itself(b"TREE", 32),
        "B-tree of chunks in a loop": pointing_to_itself(b"TREE", 48, -1),
        "symbols 65,535 in number": every(b"SNOD", 6, b"\xff\xff"),
        "symbol's name beyond the heap": at(b"SNOD", 8, HUGE),
        "group that is its own member": at(b"SNOD", 16, bytes(8)),
        "local heap of 2^62 bytes": at(b"HEAP", 8, HUGE),
        "local heap at the superblock": at(b"HEAP", 24, bytes(8)),
        "free list beyond the heap": at(b"HEAP", 16, HUGE),
        "free list in a loop": free_list_in_a_loop,
        "global heap of 2^62 bytes": at(b"GCOL", 8, HUGE),
        "object larger than its heap": at(b"GCOL", 24, HUGE),
        "file cut in a B-tree": cut(b"TREE", 20),
        "file cut in a local heap": cut(b"HEAP", 9),
    },
    "new": {
        "flags of the superblock": superblock(11, b"\xff"),
        "root beyond the file": superblock(36, HUGE),
        "extension at the superblock": superblock(20, bytes(8)),
        "header of flags unknown": at(b"OHDR", 5, b"\xff"),
        "chunk of a header too large": at(b"OHDR", 6, b"\xff\xff\xff\xff"),
        "fractal heap of wide ids": at(b"FRHP", 5, b"\xff\xff"),
        "fractal heap with filters": at(b"FRHP", 7, b"\xff\xff"),
        "fractal heap in blocks of 2^62": at(b"FRHP", 112, HUGE),
        "fractal heap of 65,535 rows": at(b"FRHP", 140, b"\xff\xff"),
        "fractal heap that is its root": pointing_to_itself(b"FRHP", 132),
        "block of another heap": at(b"FHDB", 5, bytes(8)),
        "B-tree of unknown records": at(b"BTHD", 5, b"\xff"),
        "B-tree in nodes of no bytes": at(b"BTHD", 6, bytes(4)),
        "B-tree of depth 65,535": at(b"BTHD", 12, b"\xff\xff"),
        "B-tree that is its root": pointing_to_itself(b"BTHD", 16),
        "B-tree of 65,535 records": at(b"BTHD", 24, b"\xff\xff"),
        "file cut in a header": cut(b"OHDR", 11),
    },
    "ours": {
        "superblock of version 3": superblock(8, b"\3"),
        "offsets of 200 bytes": superblock(9, b"\xc8"),
        "extension at itself": superblock(20, bytes(8)),
        "end beyond the file": superblock(28, HUGE),
        "root at the superblock": superblock(36, bytes(8)),
        "root beyond the file": superblock(36, HUGE),
        "header of unknown flags": at(b"OHDR", 5, b"\xff"),
        "chunk of a header too large": at(b"OHDR", 6, b"\xff\xff"),
        "a dataspace too long": message_of_ours(1, longer_than_its_header),
        "a datatype too long": message_of_ours(3, longer_than_its_header),
        "a layout too long": message_of_ours(8, longer_than_its_header),
        "a link too long": message_of_ours(6, longer_than_its_header),
        "file cut in its metadata": cut_in_our_metadata,
    },
}
CASES = [(kind, name) for kind, names in ATTACKS.items() for name in names]
# A process each takes time; these are of every kind.
IN_A_CHILD = [
    ("old", "free list in a loop"),
    ("old", "header continued in itself"),
    ("new", "fractal heap that is its root"),
    ("ours", "chunk of a header too large"),
]


def attack(files, kind, name):
    data = ATTACKS[kind][name](files[kind])
    assert data != files[kind]
    return data


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_hostile_file_is_refused(files, tmp_path, kind, name):
    path = tmp_path / "a.h5"
    path.write_bytes(attack(files, kind, name))
    tracemalloc.start()
    try:
        for read in (artifact.read, artifact.read_manifest, artifact.verify):
            with pytest.raises(ArtifactError, match="Received"):
                read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("kind", "name"),
    CASES if "KERAS_SQUEEZE_ROUNDS" in os.environ else IN_A_CHILD,
)
def test_a_child_has_a_verdict(files, tmp_path, kind, name):
    path = tmp_path / "a.h5"
    path.write_bytes(attack(files, kind, name))
    with pytest.raises(ArtifactError) as alone:
        artifact.verify(path)
    with pytest.raises(ArtifactError) as isolated:
        verify_isolated(path, isolation=Isolation(max_seconds=60))
    assert type(isolated.value) is type(alone.value)
    assert str(isolated.value) == str(alone.value)


def test_the_files_are_what_is_attacked(files, tmp_path):
    """Else the structures above would not be there to lie."""
    for kind in ("old", "new"):
        (tmp_path / kind).write_bytes(files[kind])
        with pytest.raises(ArtifactError, match="Received"):
            artifact.verify(tmp_path / kind)
        with h5py.File(tmp_path / kind) as file:
            assert file["layers/dense_8/vars/1"][3, 4] == 1.5
    (tmp_path / "ours.h5").write_bytes(files["ours"])
    assert artifact.verify(tmp_path / "ours.h5").totals["ok"]
    for kind, signatures in {
        "old": (b"TREE", b"SNOD", b"HEAP", b"GCOL"),
        "new": (b"OHDR", b"FRHP", b"FHDB", b"BTHD", b"BTLF"),
    }.items():
        assert all(signature in files[kind] for signature in signatures)
