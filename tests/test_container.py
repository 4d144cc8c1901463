"""The reader accepts exactly the skeleton, whatever else HDF5 can hold.

Every trick is a file that h5py builds in the very layout of our writer, with
that one thing changed, and once more by changing one of our files with h5py.
"""

import os
import sys
import tracemalloc

import h5py
import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.artifact.hdf5_skeleton import parse_skeleton
from keras_squeeze.artifact.reading import parse_source
from keras_squeeze.artifact.sources import BytesSource
from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    NotAnArtifactError,
    UnsafeArtifactError,
    UnsupportedVersionError,
)
from tests.hdf5_builder import GROUP, STREAM, TOP, build, create_group

# What an audit hook saw opened while it was asked to look.
_watched: list[list[str]] = []


def _watch(event, arguments):
    if _watched and event in ("open", "import", "socket.connect", "os.exec"):
        _watched[-1].append(f"{event} {arguments[0]}")


sys.addaudithook(_watch)


@pytest.fixture
def opened():
    _watched.append([])
    yield _watched[-1]
    _watched.pop()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    target = tmp_path_factory.mktemp("original") / "a.h5"
    values = np.random.default_rng(0).normal(size=(20, 30)).astype("float32")
    artifact.write(
        str(target),
        [TensorInput.from_values("w", values)],
        {"class_name": "Sequential", "name": "m", "config": None},
        keras_version="3.15.1",
    )
    return target.read_bytes()


@pytest.fixture
def path(tmp_path, original):
    target = tmp_path / "a.h5"
    target.write_bytes(original)
    return target


@pytest.fixture
def stream(original):
    found = parse_skeleton(BytesSource(original, "original"))
    return np.frombuffer(original, "u1")[found.stream_offset :]


def replace_stream(path, make):
    with h5py.File(path, "r+") as file:
        data = file[STREAM][:]
        group = file[TOP]
        del group["stream"]
        make(group, data)


# --- tricks with the stream ---------------------------------------------------


def external(target):
    def make(group, data):
        group.create_dataset(
            "stream", data.shape, "u1", external=[(target, 0, data.size)]
        )

    make.__name__ = f"external {target}"
    return make


def external_fifo(group, data):
    name = os.path.join(os.path.dirname(group.file.filename), "fifo")
    if hasattr(os, "mkfifo"):
        os.mkfifo(name)
    external(name)(group, data)


def virtual(group, data):
    layout = h5py.VirtualLayout(shape=data.shape, dtype="u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=data.shape)
    group.create_virtual_dataset("stream", layout)


def external_link(group, data):
    group["stream"] = h5py.ExternalLink("other.h5", "/stream")


def soft_link(group, data):
    group["stream"] = h5py.SoftLink("/model_weights")


def soft_link_to_a_stream(group, data):
    group.file["elsewhere"] = data
    group["stream"] = h5py.SoftLink("/elsewhere")


def cycle(group, data):
    group["stream"] = group.file


def second_name(group, data):
    group.create_dataset("stream", data=data, track_times=False)
    group["other"] = group["stream"]


def chunked(group, data):
    group.create_dataset("stream", data=data, chunks=(100,))


def compressed(group, data):
    group.create_dataset("stream", data=data, compression="gzip")


def fletcher32(group, data):
    group.create_dataset("stream", data=data, fletcher32=True)


def unknown_filter(group, data):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((data.size,))
    properties.set_filter(54321, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple(data.shape)
    h5py.h5d.create(group.id, b"stream", h5py.h5t.STD_U8LE, space, properties)


def compact(group, data):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    properties.set_obj_track_times(False)
    space = h5py.h5s.create_simple((100,))
    made = h5py.h5d.create(
        group.id, b"stream", h5py.h5t.STD_U8LE, space, properties
    )
    h5py.Dataset(made)[:] = data[:100]


def unallocated(group, data):
    group.create_dataset("stream", (1 << 42,), "u1", track_times=False)


def chunked_bomb(group, data):
    group.create_dataset(
        "stream", (1 << 50,), "u1", chunks=(1 << 20,), compression="gzip"
    )


def fill_value_bomb(group, data):
    group.create_dataset(
        "stream", (1 << 30,), "u1", fillvalue=7, chunks=(1 << 20,)
    )


def fill_value(group, data):
    group.create_dataset("stream", data=data, fillvalue=7, track_times=False)


def resizable(group, data):
    group.create_dataset("stream", data=data, maxshape=(None,))


def other_dtype(group, data):
    group.create_dataset("stream", data=data.astype("int16"))


def signed(group, data):
    group.create_dataset("stream", data=data.view("int8"), track_times=False)


def two_dimensional(group, data):
    group.create_dataset("stream", data=data[None], track_times=False)


def scalar(group, data):
    group.create_dataset("stream", data=data[0], track_times=False)


def empty(group, data):
    group.create_dataset("stream", (0,), "u1", track_times=False)


def null_space(group, data):
    group["stream"] = h5py.Empty("u1")


def opaque(group, data):
    group.create_dataset("stream", data=data.view("V1"))


def variable_strings(group, data):
    group.create_dataset("stream", data=["x" * 30] * 3)


def variable_bytes(group, data):
    made = group.create_dataset("stream", (2,), h5py.vlen_dtype(np.uint8))
    made[0] = data[:5]


def compound(group, data):
    pairs = np.zeros(10, [("a", "u1"), ("b", "u1")])
    group.create_dataset("stream", data=pairs)


def enumeration(group, data):
    kind = h5py.enum_dtype({"A": 0, "B": 1}, basetype="u1")
    group.create_dataset("stream", data=data % 2, dtype=kind)


def array_dtype(group, data):
    group.create_dataset("stream", (3,), np.dtype("(4,)u1"))


def object_reference(group, data):
    made = group.create_dataset("stream", (1,), h5py.ref_dtype)
    made[0] = group.file.ref


def region_reference(group, data):
    other = group.create_dataset("data", data=data)
    made = group.create_dataset("stream", (1,), h5py.regionref_dtype)
    made[0] = other.regionref[:3]


def named_type(group, data):
    group["stream"] = np.dtype("u1")


def of_a_named_type(group, data):
    group.file["type"] = np.dtype("u1")
    group.create_dataset("stream", data=data, dtype=group.file["type"])


def a_group(group, data):
    group.create_group("stream")


def with_times(group, data):
    group.create_dataset("stream", data=data, track_times=True)


def with_attribute(group, data):
    made = group.create_dataset("stream", data=data, track_times=False)
    made.attrs["more"] = 1


STREAMS = [
    external("/etc/passwd"),
    external("relative.bin"),
    external("/proc/self/environ"),
    external("/dev/zero"),
    external_fifo,
    virtual,
    external_link,
    soft_link,
    soft_link_to_a_stream,
    cycle,
    second_name,
    chunked,
    compressed,
    fletcher32,
    unknown_filter,
    compact,
    unallocated,
    chunked_bomb,
    fill_value_bomb,
    fill_value,
    resizable,
    other_dtype,
    signed,
    two_dimensional,
    scalar,
    empty,
    null_space,
    opaque,
    variable_strings,
    variable_bytes,
    compound,
    enumeration,
    array_dtype,
    object_reference,
    region_reference,
    named_type,
    of_a_named_type,
    a_group,
    with_times,
    with_attribute,
]


# The library writes no virtual dataset in the writer's version of HDF5.
BUILDABLE = [make for make in STREAMS if make is not virtual]


@pytest.mark.parametrize("make", BUILDABLE, ids=lambda make: make.__name__)
def test_other_streams_are_refused(tmp_path, stream, make, opened):
    build(tmp_path / "built.h5", stream, make)
    refuse(tmp_path / "built.h5", opened)


@pytest.mark.parametrize(
    "make",
    [virtual, *STREAMS[::3]],
    ids=lambda make: f"{make.__name__} in one of ours",
)
def test_other_streams_in_one_of_our_files(path, make, opened):
    replace_stream(path, make)
    refuse(path, opened)


def refuse(path, opened):
    """The file is refused, and neither another file nor much memory used."""
    with pytest.raises(ArtifactError):
        artifact.inspect(path)
    opened.clear()
    tracemalloc.start()
    try:
        with pytest.raises((UnsafeArtifactError, CorruptArtifactError)):
            artifact.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert opened == [f"open {path}"]
    assert peak < 4 << 20
    data = path.read_bytes() if path.stat().st_size < 1 << 20 else b""
    with pytest.raises(ArtifactError):
        parse_source(BytesSource(data, "from memory"))


# --- tricks around the stream -------------------------------------------------


def extra_dataset(file):
    file["more"] = np.arange(3)


def extra_group(file):
    create_group(file[GROUP], b"more")


def extra_sibling(file):
    file[TOP]["more"] = np.arange(3)


def extra_attribute(file):
    file.attrs["training_config"] = "{}"


def attribute_of_the_innermost_group(file):
    file[TOP].attrs.create("more", np.bytes_(b"x"))


def hard_link_cycle(file):
    file[TOP]["again"] = file[GROUP]


def extra_soft_link(file):
    file["more"] = h5py.SoftLink("/nowhere")


def extra_external_link(file):
    file["more"] = h5py.ExternalLink("/etc/passwd", "/x")


def user_defined_link(file):
    # Links of classes from 65 on call code that a program registered.
    file["more"] = h5py.ExternalLink("abcdef", "/xyz")


def extra_named_type(file):
    file["more"] = np.dtype("i4")


def missing_attribute(file):
    del file.attrs["backend"]


def huge_version(file):
    # Turned into bytes carelessly, an integer is that many bytes.
    del file.attrs["keras_version"]
    file.attrs["keras_version"] = np.int64(1 << 40)


def long_version(file):
    file.attrs.create("keras_version", np.bytes_(b"3" * 65))


def array_of_versions(file):
    file.attrs.create("keras_version", np.array([b"3.15.1"] * 3))


def variable_version(file):
    del file.attrs["keras_version"]
    file.attrs["keras_version"] = "3.15.1"


def another_version_in_the_group(file):
    file[GROUP].attrs.create("keras_version", np.bytes_(b"3.15.2"))


def other_weight_names(file):
    file[TOP].attrs.create("weight_names", np.array([b"stream", b"stream"]))


def layers(file):
    file[GROUP].attrs.create("layer_names", np.array([b"a"]))


def attribute_that_refers(file):
    file.attrs.create("more", file.ref, dtype=h5py.ref_dtype)


def dense_attributes(file):
    for number in range(20):
        file[TOP].attrs[f"more{number}"] = number


def many_attributes(file):
    for number in range(3000):
        file[TOP].attrs[f"more{number}"] = b""


def huge_attribute(file):
    file.attrs.create("more", np.zeros(60_000, "u1"))


CHANGES = [
    extra_dataset,
    extra_group,
    extra_sibling,
    extra_attribute,
    attribute_of_the_innermost_group,
    hard_link_cycle,
    extra_soft_link,
    extra_external_link,
    user_defined_link,
    extra_named_type,
    missing_attribute,
    huge_version,
    long_version,
    array_of_versions,
    variable_version,
    another_version_in_the_group,
    other_weight_names,
    layers,
    attribute_that_refers,
    dense_attributes,
    many_attributes,
    huge_attribute,
]


@pytest.mark.parametrize("change", CHANGES)
def test_anything_more_or_less_is_refused(tmp_path, stream, change, opened):
    built = tmp_path / "built.h5"
    build(built, stream, change=change)
    if change is user_defined_link:
        make_the_link_user_defined(built)
    refuse(built, opened)


@pytest.mark.parametrize("change", CHANGES[::3])
def test_anything_more_in_one_of_our_files(path, change, opened):
    with h5py.File(path, "r+") as file:
        change(file)
    refuse(path, opened)


def make_the_link_user_defined(path):
    data = path.read_bytes()
    # Version 1, the type of the link is given: 64, external; 65 is free.
    place = data.index(b"\x04more") - 2
    assert data[place : place + 2] == bytes([8, 64])
    path.write_bytes(data[: place + 1] + bytes([65]) + data[place + 2 :])


def test_the_top_group_is_a_dataset(path):
    with h5py.File(path, "r+") as file:
        del file[TOP]
        file[TOP] = np.arange(3)
    with pytest.raises(UnsafeArtifactError):
        artifact.read(path)


@pytest.mark.parametrize("userblock", [512, 4096])
def test_a_user_block(tmp_path, stream, userblock):
    build(tmp_path / "a.h5", stream, userblock=userblock)
    with pytest.raises(NotAnArtifactError):
        artifact.read(tmp_path / "a.h5")
    with open(tmp_path / "a.h5", "r+b") as file:
        file.write(b"#!/bin/sh\n")
    with pytest.raises(NotAnArtifactError, match="#!/bin/s"):
        artifact.read(tmp_path / "a.h5")


@pytest.mark.parametrize("low", ["EARLIEST", "LATEST"])
def test_the_same_in_another_version_of_the_library(tmp_path, stream, low):
    bounds = getattr(h5py.h5f, f"LIBVER_{low}"), h5py.h5f.LIBVER_LATEST
    build(tmp_path / "a.h5", stream, libver=bounds)
    with pytest.raises(ArtifactError):
        artifact.read(tmp_path / "a.h5")


# --- the writer's part --------------------------------------------------------


def test_keras_finds_what_it_asks_for(path, stream):
    with h5py.File(path) as file:
        assert file.attrs["keras_version"] == b"3.15.1"
        assert file.attrs["backend"] == b"tensorflow"
        assert file[TOP].attrs["weight_names"].tolist() == [b"stream"]
        assert file[GROUP].attrs["layer_names"].tolist() == []
    start = skeleton_start(stream.size, "3.15.1", "tensorflow")
    assert path.read_bytes() == start + stream.tobytes()


@pytest.mark.parametrize("version", ["", "3" * 65])
def test_a_version_that_no_reader_takes_is_not_written(version):
    with pytest.raises(ArtifactError, match="Received"):
        skeleton_start(100, version, "tensorflow")


def test_a_plain_keras_file_is_named_as_such(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    with pytest.raises(NotAnArtifactError, match=r"keras\.models\.load_model"):
        artifact.inspect(tmp_path / "plain.h5")


def test_a_file_of_a_newer_version(path):
    data = bytearray(path.read_bytes())
    start = data.index(b"\x89KSQ")
    data[start + 8] = 2
    path.write_bytes(data)
    with pytest.raises(UnsupportedVersionError, match="version 2"):
        artifact.read(path)


def test_a_stream_of_another_size_than_it_says(tmp_path, stream):
    build(tmp_path / "a.h5", stream[:-1])
    with pytest.raises(CorruptArtifactError, match="Received"):
        artifact.read(tmp_path / "a.h5")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_path_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for path in (tmp_path, tmp_path / "pipe.h5", "/dev/zero"):
        with pytest.raises(NotAnArtifactError, match="regular file"):
            artifact.read(path)


def test_no_plug_in_is_looked_for(tmp_path, stream, opened, monkeypatch):
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(tmp_path / "plugins"))
    build(tmp_path / "a.h5", stream, unknown_filter)
    refuse(tmp_path / "a.h5", opened)
