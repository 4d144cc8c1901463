"""The strict reader of the HDF5 skeleton, with h5py as second opinion."""

import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.artifact.hdf5_objects import (
    SUPERBLOCK_BYTES,
    read_object,
    read_superblock,
)
from keras_squeeze.artifact.hdf5_skeleton import parse_skeleton
from keras_squeeze.artifact.lookup3 import lookup3
from keras_squeeze.artifact.sources import BytesSource
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    NotAnArtifactError,
    UnsafeArtifactError,
)
from tests.hdf5_builder import STREAM, build, regions_of_metadata, reseal

GOLDEN = sorted(Path(__file__).parent.glob("golden/format-1*/*.h5"))


def parse(data):
    return parse_skeleton(BytesSource(bytes(data), "a.h5"))


def file_of(stream, keras_version="3.15.1", backend="tensorflow"):
    return skeleton_start(len(stream), keras_version, backend) + stream


@pytest.fixture(scope="module")
def intact():
    return file_of(bytes(range(100)))


# --- what is read -------------------------------------------------------------


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_as_h5py_sees_them(path):
    data = path.read_bytes()
    skeleton = parse(data)
    with h5py.File(path) as file:
        stream = file[STREAM]
        assert skeleton.stream_offset == stream.id.get_offset()
        assert skeleton.stream_bytes == stream.shape[0]
        assert skeleton.keras_version == file.attrs["keras_version"].decode()
        assert skeleton.backend == file.attrs["backend"].decode()
    assert data[skeleton.stream_offset :][:4] == b"\x89KSQ"


@pytest.mark.parametrize("size", [1, 60, 255, 256, 65_535, 65_536, 3_000_000])
def test_streams_of_every_size(size):
    skeleton = parse(file_of(bytes(size)))
    assert (skeleton.stream_offset, skeleton.stream_bytes) == (
        len(file_of(b"x")) - 1,
        size,
    ) or size >= 10


@pytest.mark.parametrize("length", [1, 2, 7, 31, 64])
@pytest.mark.parametrize("other", [1, 64])
def test_versions_of_every_length(length, other):
    skeleton = parse(file_of(b"stream", "v" * length, "b" * other))
    assert skeleton.keras_version == "v" * length
    assert skeleton.backend == "b" * other
    assert skeleton.stream_bytes == 6


def test_the_builder_of_these_tests_builds_what_the_writer_writes(tmp_path):
    data = np.arange(200, dtype=np.uint8)
    build(tmp_path / "a.h5", data)
    assert (tmp_path / "a.h5").read_bytes() == file_of(data.tobytes())


def test_a_stream_beyond_four_gibibytes(tmp_path):
    size = (1 << 32) + 5
    start = skeleton_start(size, "3.15.1", "tensorflow")
    (tmp_path / "a.h5").write_bytes(start)
    with open(tmp_path / "a.h5", "r+b") as file:
        file.truncate(len(start) + size)

    class Sparse(BytesSource):
        """The start of the file; the rest is not looked at."""

    source = Sparse(start, "a.h5")
    source.size = len(start) + size
    skeleton = parse_skeleton(source)
    assert (skeleton.stream_offset, skeleton.stream_bytes) == (len(start), size)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file[STREAM].shape == (size,)


def test_the_metadata_is_all_there_is_before_the_stream(intact):
    place = 0
    for start, stop in regions_of_metadata(intact):
        assert start == place
        place = stop
    assert place == parse(intact).stream_offset


# --- checksums ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xDEADBEEF),
        (b"Four score and seven years ago", 0x17770551),
        (b"a" * 12, None),
        (b"a" * 13, None),
    ],
)
def test_lookup3(data, expected):
    assert expected is None or lookup3(data) == expected
    changed = {lookup3(data[:i] + b"b" + data[i + 1 :]) for i in range(13)}
    assert lookup3(data) not in changed


def test_lookup3_is_the_checksum_that_the_library_writes(intact):
    regions = regions_of_metadata(intact)
    assert len(regions) == 9
    for start, stop in regions:
        stored = int.from_bytes(intact[stop - 4 : stop], "little")
        assert lookup3(intact[start : stop - 4]) == stored


def test_every_flipped_bit_of_the_metadata_is_refused(intact):
    offset = parse(intact).stream_offset
    for place in range(offset):
        data = bytearray(intact)
        data[place] ^= 1 << (place % 8)
        with pytest.raises(ArtifactError):
            parse(data)


def test_damage_is_called_damage(intact):
    start, stop = regions_of_metadata(intact)[1]
    data = bytearray(intact)
    data[(start + stop) // 2] ^= 1
    with pytest.raises(CorruptArtifactError, match=r"checksum .* 'a.h5'"):
        parse(data)


# --- changes with checksums that match ----------------------------------------


def test_whatever_byte_of_the_metadata_is_changed(intact, rng):
    """The attacker recomputes the checksums; still the file is refused.

    What may change is what the reader takes from the file: the versions. Keras
    shows them to people; they are the same in root and group.
    """
    regions = regions_of_metadata(intact)
    checksums = {
        place for _, stop in regions for place in range(stop - 4, stop)
    }
    expected = parse(intact)
    accepted = []
    for place in range(expected.stream_offset):
        if place in checksums:
            continue
        data = bytearray(intact)
        data[place] ^= int(rng.integers(1, 256))
        try:
            parse(reseal(data, regions))
        except ArtifactError:
            continue
        accepted.append(place)
    # A filler of zeros may be said to be two.
    assert all(not any(intact[place + 1 : place + 8]) for place in accepted)
    assert len(accepted) <= 3


def test_fields_that_point_elsewhere(intact):
    """Sizes and addresses that leave the file, overlap or wrap around."""
    regions = regions_of_metadata(intact)
    root = int.from_bytes(intact[36:44], "little")
    place_and_size = struct.pack("<QQ", parse(intact).stream_offset, 100)
    layout = intact.index(place_and_size)
    fields = [20, 28, 36, layout, layout + 8]
    for field in fields:
        before = int.from_bytes(intact[field : field + 8], "little")
        for value in (
            0,
            1,
            47,
            48,
            root + 1,
            (before + 1) % (1 << 64),
            1 << 40,
            (1 << 64) - 9,
        ):
            if value == before:
                continue
            data = bytearray(intact)
            data[field : field + 8] = struct.pack("<Q", value)
            with pytest.raises(ArtifactError):
                parse(reseal(data, regions))


def test_a_header_that_continues_in_itself(intact):
    regions = regions_of_metadata(intact)
    data = bytearray(intact)
    # Type 0x10, 16 bytes: the root's header goes on in a second chunk, whose
    # first two messages, of 18 and 24 bytes, make room for another such.
    place = data.index(bytes.fromhex("10100000"), SUPERBLOCK_BYTES)
    start, _ = struct.unpack_from("<QQ", data, place + 4)
    again = data[place : place + 20] + struct.pack("<BHB26x", 0, 26, 0)
    assert len(again) == 4 + 18 + 4 + 24
    data[start + 4 : start + 4 + len(again)] = again
    with pytest.raises(UnsafeArtifactError, match="more than 8 chunks"):
        parse(reseal(data, regions))


def test_bytes_behind_the_stream_though_the_superblock_counts_them(intact):
    data = bytearray(intact + b"more")
    data[28:36] = struct.pack("<Q", len(data))
    with pytest.raises(UnsafeArtifactError, match="end with"):
        parse(reseal(data, [(0, SUPERBLOCK_BYTES)]))


def test_a_gap_that_nothing_refers_to(intact):
    """A polyglot's hiding place between the skeleton and the stream."""
    offset = parse(intact).stream_offset
    data = bytearray(intact[:offset] + b"PK\x03\x04" + intact[offset:])
    data[28:36] = struct.pack("<Q", len(data))
    layout = data.index(struct.pack("<QQ", offset, 100))
    data[layout : layout + 8] = struct.pack("<Q", offset + 4)
    with pytest.raises(UnsafeArtifactError, match="every byte"):
        parse(reseal(data, regions_of_metadata(intact)))


def test_a_filler_that_is_not_empty(intact):
    regions = regions_of_metadata(intact)
    dataset = next(r for r in regions if r[1] == parse(intact).stream_offset)
    start = max(r for r in regions if r[1] - r[0] > 250)[0]
    data = bytearray(intact)
    filler = data.index(bytes(60), start) + 30
    data[filler] = 7
    assert dataset
    with pytest.raises(UnsafeArtifactError, match="message 0x0"):
        parse(reseal(data, regions))


@pytest.mark.parametrize("flags", [0x02, 0x08, 0x20, 0x80])
def test_flags_of_messages_that_would_change_their_meaning(intact, flags):
    data = bytearray(intact)
    place = data.index(bytes.fromhex("10100000"), SUPERBLOCK_BYTES) + 3
    data[place] |= flags
    with pytest.raises(UnsafeArtifactError, match="a continuation"):
        parse(reseal(data, regions_of_metadata(intact)))


def test_two_files_that_say_the_size_differently(intact):
    """`model_config` is what Keras reads; it must agree with the dataset."""
    data = intact.replace(b'"stream_bytes": 100', b'"stream_bytes": 101')
    with pytest.raises(UnsafeArtifactError):
        parse(reseal(data, regions_of_metadata(intact)))


# --- other files --------------------------------------------------------------


def test_an_hdf5_file_of_another_kind(tmp_path):
    for number, libver in enumerate(("earliest", "v108", "v110", "latest")):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w", libver=libver) as file:
            file.attrs["model_config"] = "{}"
            file["model_weights/dense/kernel"] = np.zeros((3, 3))
        with pytest.raises(NotAnArtifactError, match=r"keras\.models\.load"):
            parse(path.read_bytes())


@pytest.mark.parametrize("size", [0, 1, 7, 8, 20, 47])
def test_a_file_shorter_than_its_superblock(intact, size):
    with pytest.raises(ArtifactError):
        parse(intact[:size])


def test_a_superblock_alone(intact):
    data = bytearray(intact[:SUPERBLOCK_BYTES])
    data[28:36] = struct.pack("<Q", len(data))
    data = reseal(data, [(0, SUPERBLOCK_BYTES)])
    assert read_superblock(BytesSource(data, "a.h5")) == SUPERBLOCK_BYTES
    with pytest.raises(ArtifactError):
        read_object(BytesSource(data, "a.h5"), SUPERBLOCK_BYTES)


# --- without the library ------------------------------------------------------


def test_reading_needs_neither_hdf5_nor_keras():
    code = (
        "import sys, keras_squeeze as ks; ks.verify(sys.argv[1]); "
        "ks.inspect(sys.argv[1]); ks.artifact.read(sys.argv[1]).decode_all(); "
        "print([m for m in ('h5py', 'keras', 'tensorflow') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(GOLDEN[0])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
