"""The reader accepts exactly the skeleton, whatever else HDF5 can hold."""

import builtins
import sys

import h5py
import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput
from keras_squeeze.errors import (
    ArtifactError,
    NotAnArtifactError,
    UnsafeArtifactError,
    UnsupportedVersionError,
)

STREAM = "model_weights/top_level_model_weights/stream"


@pytest.fixture
def path(tmp_path, rng):
    target = tmp_path / "a.h5"
    values = rng.normal(size=(20, 30)).astype("float32")
    artifact.write(
        str(target),
        [TensorInput.from_values("w", values)],
        {"class_name": "Sequential", "name": "m", "config": None},
        keras_version="3.15.1",
    )
    return target


def replace_stream(path, make):
    with h5py.File(path, "r+") as file:
        data = file[STREAM][:]
        group = file["model_weights/top_level_model_weights"]
        del group["stream"]
        make(group, data)


def external(group, data):
    group.create_dataset(
        "stream", data.shape, "u1", external=[("/etc/passwd", 0, data.size)]
    )


def virtual(group, data):
    layout = h5py.VirtualLayout(shape=data.shape, dtype="u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=data.shape)
    group.create_virtual_dataset("stream", layout)


def external_link(group, data):
    group["stream"] = h5py.ExternalLink("other.h5", "/stream")


def soft_link(group, data):
    group["stream"] = h5py.SoftLink("/model_weights")


def chunked(group, data):
    group.create_dataset("stream", data=data, chunks=(100,))


def compressed(group, data):
    group.create_dataset("stream", data=data, compression="gzip")


def unallocated(group, data):
    group.create_dataset("stream", (1 << 42,), "u1")


def other_dtype(group, data):
    group.create_dataset("stream", data=data.astype("int16"))


def two_dimensional(group, data):
    group.create_dataset("stream", data=data[None])


def a_group(group, data):
    group.create_group("stream")


def named_type(group, data):
    group["stream"] = np.dtype("u1")


@pytest.mark.parametrize(
    "make",
    [
        external,
        virtual,
        external_link,
        soft_link,
        chunked,
        compressed,
        unallocated,
        other_dtype,
        two_dimensional,
        a_group,
        named_type,
    ],
)
def test_other_kinds_of_storage_are_refused(path, make, monkeypatch):
    replace_stream(path, make)
    opened = []
    plain_open = builtins.open

    def recording_open(name, *args, **kwargs):
        opened.append(str(name))
        return plain_open(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", recording_open)
    with pytest.raises(UnsafeArtifactError):
        artifact.read(path)
    assert opened == [str(path)]


def extra_dataset(file):
    file["more"] = np.arange(3)


def extra_group(file):
    file.create_group("model_weights/more")


def extra_sibling(file):
    file["model_weights/top_level_model_weights/more"] = np.arange(3)


def extra_attribute(file):
    file.attrs["training_config"] = "{}"


def stream_attribute(file):
    file[STREAM].attrs["more"] = 1


def missing_attribute(file):
    del file.attrs["backend"]


def huge_version(file):
    # Turned into bytes carelessly, an integer is that many bytes.
    del file.attrs["keras_version"]
    file.attrs["keras_version"] = np.int64(1 << 40)


def array_of_versions(file):
    del file.attrs["keras_version"]
    file.attrs["keras_version"] = np.array([b"3.15.1"] * 3)


def variable_version(file):
    del file.attrs["keras_version"]
    file.attrs["keras_version"] = "3.15.1"


def top_is_a_dataset(file):
    del file["model_weights/top_level_model_weights"]
    file["model_weights/top_level_model_weights"] = np.arange(3)


@pytest.mark.parametrize(
    "change",
    [
        extra_dataset,
        extra_group,
        extra_sibling,
        extra_attribute,
        stream_attribute,
        missing_attribute,
        huge_version,
        array_of_versions,
        variable_version,
        top_is_a_dataset,
    ],
)
def test_anything_more_or_less_is_refused(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UnsafeArtifactError):
        artifact.inspect(path)


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


def test_a_stream_of_another_size_than_it_says(path):
    replace_stream(
        path, lambda group, data: group.create_dataset("stream", data=data[:-1])
    )
    with pytest.raises(ArtifactError, match="Received"):
        artifact.read(path)


def test_reading_needs_neither_keras_nor_tensorflow(path):
    import subprocess

    code = (
        "import sys, keras_squeeze as ks; ks.verify(sys.argv[1]); "
        "ks.inspect(sys.argv[1]); "
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
