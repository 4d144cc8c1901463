"""The HDF5 skeleton around a stream; the only importer of h5py's file API.

The skeleton is what Keras' own loader of whole-model `.h5` files asks for, and
nothing more: three root attributes, two groups, one contiguous `uint8` dataset.
Keras finds a model of the registered class `keras_squeeze>SqueezedModel` whose
only weight is the stream.

The reader accepts exactly this layout. Links to other files, external storage,
virtual datasets, filters and further objects are refused before any data is
read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import h5py
import numpy as np

from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.stream import (
    HEADER_BYTES,
    MAGIC,
    Header,
    parse_header,
)
from keras_squeeze.errors import (
    CorruptArtifactError,
    NotAnArtifactError,
    UnsafeArtifactError,
)

MODEL_CLASS = "keras_squeeze>SqueezedModel"
_GROUP = b"model_weights"
_TOP = b"top_level_model_weights"
_DATASET = b"stream"
_ROOT_ATTRIBUTES = {b"model_config", b"keras_version", b"backend"}
_GROUP_ATTRIBUTES = {b"layer_names", b"keras_version", b"backend"}
_MAX_VERSION_BYTES = 64
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def write_skeleton(
    path: str, stream: list[bytes], keras_version: str, backend: str
) -> None:
    """Writes a new file that holds a stream; equal input gives equal bytes.

    Args:
        path: String. The file to create; an existing file is replaced.
        stream: List of bytes, joined in this order.
        keras_version: String. Recorded for Keras' loader.
        backend: String. Recorded for Keras' loader.
    """
    data = np.frombuffer(b"".join(stream), np.uint8)
    config = {"stream_bytes": data.size}
    with _create(path) as file:
        model_config = {"class_name": MODEL_CLASS, "config": config}
        _set_attribute(file, "model_config", json.dumps(model_config))
        group = _create_group(file, _GROUP)
        group.attrs.create("layer_names", np.array([], "S1"))
        for owner in (file, group):
            _set_attribute(owner, "keras_version", keras_version)
            _set_attribute(owner, "backend", backend)
        top = _create_group(group, _TOP)
        top.attrs.create("weight_names", np.array([_DATASET]))
        top.create_dataset(_DATASET.decode(), data=data, track_times=False)


def _create(path: str) -> h5py.File:
    # Times are off, the library's format version is pinned and metadata is
    # not padded: else equal models would give different and larger files.
    created = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    created.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    access.set_meta_block_size(1)
    name = os.fsencode(path)
    return h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, created, access))


def _create_group(parent: Any, name: bytes) -> h5py.Group:
    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(parent.id, name, gcpl=properties))


def _set_attribute(owner: Any, name: str, value: str) -> None:
    owner.attrs.create(name, np.bytes_(value.encode()))


class StreamReader:
    """Reads ranges of the stream in an open file.

    Args:
        dataset: The `h5py.Dataset`, already checked.
        header: The stream's `Header`.
        keras_version: String. Which Keras wrote the file.
        backend: String. The backend it ran on.
    """

    def __init__(
        self,
        dataset: h5py.Dataset,
        header: Header,
        keras_version: str,
        backend: str,
    ) -> None:
        self.header = header
        self.keras_version = keras_version
        self.backend = backend
        self._dataset = dataset

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of the stream."""
        data: bytes = self._dataset[start:stop].tobytes()
        if len(data) != stop - start:
            raise CorruptArtifactError(
                f"Expected {stop - start} bytes of the stream at {start}. "
                f"Received: {len(data)} bytes"
            )
        return data


@contextmanager
def open_stream(
    path: str | os.PathLike[str], limits: Limits
) -> Iterator[StreamReader]:
    """Opens a file, checks that it is exactly our skeleton, yields its stream.

    Args:
        path: Path of the file.
        limits: A `Limits` object.

    Yields:
        A `StreamReader`.

    Raises:
        NotAnArtifactError: If it is another kind of file.
        UnsafeArtifactError: If it holds more than the skeleton.
        CorruptArtifactError: If it is damaged.
    """
    name = os.fspath(path)
    with open(name, "rb") as raw:
        _check_magic(raw, name)
        try:
            with h5py.File(raw, "r") as file:
                yield _checked_reader(file, name, limits)
        except (OSError, RuntimeError, KeyError) as error:
            raise CorruptArtifactError(
                f"Expected an intact HDF5 file at {name!r}. Received: {error}"
            ) from error


def _check_magic(raw: BinaryIO, name: str) -> None:
    start = raw.read(len(_HDF5_MAGIC))
    if start != _HDF5_MAGIC:
        raise NotAnArtifactError(
            f"Expected an HDF5 file at {name!r}. "
            f"Received: a file that starts with {start!r}"
        )
    raw.seek(0)


def _checked_reader(file: h5py.File, name: str, limits: Limits) -> StreamReader:
    _check_is_ours(file, name)
    root = h5py.h5g.open(file.id, b"/")
    group = _only_child(root, _GROUP, name)
    top = _only_child(group, _TOP, name)
    dataset = _only_child(top, _DATASET, name)
    _check_attributes(root, _ROOT_ATTRIBUTES, name)
    _check_attributes(group, _GROUP_ATTRIBUTES, name)
    _check_attributes(top, {b"weight_names"}, name)
    _check_attributes(dataset, set(), name)
    _check_dataset(dataset, name)
    stream = h5py.Dataset(dataset)
    start = stream[:HEADER_BYTES].tobytes()
    if start[: len(MAGIC)] != MAGIC:
        raise CorruptArtifactError(
            f"Expected the stream of {name!r} to start with {MAGIC!r}. "
            f"Received: {start[: len(MAGIC)]!r}"
        )
    header = parse_header(start, int(stream.shape[0]), limits)
    versions = (
        _short_string(root, attribute, name)
        for attribute in ("keras_version", "backend")
    )
    return StreamReader(stream, header, *versions)


def _short_string(root: Any, attribute_name: str, name: str) -> str:
    # Converting whatever the attribute holds could allocate what it says.
    attribute = h5py.h5a.open(root, attribute_name.encode())
    kind = attribute.get_type()
    fixed = isinstance(kind, h5py.h5t.TypeStringID)
    fixed = fixed and not kind.is_variable_str() and attribute.shape == ()
    if not fixed or kind.get_size() > _MAX_VERSION_BYTES:
        raise UnsafeArtifactError(
            f"Expected `{attribute_name}` in {name!r} to be a short string. "
            f"Received: {kind.dtype}, shape {attribute.shape}"
        )
    value = np.empty((), kind.dtype)
    attribute.read(value)
    return bytes(value.item()).decode(errors="replace")


def _check_is_ours(file: h5py.File, name: str) -> None:
    names = _attribute_names(file.id)
    config = b""
    if b"model_config" in names:
        attribute = h5py.h5a.open(file.id, b"model_config")
        if isinstance(attribute.get_type(), h5py.h5t.TypeStringID):
            config = np.asarray(file.attrs["model_config"]).tobytes()
    if MODEL_CLASS.encode() not in config:
        raise NotAnArtifactError(
            f"Expected a keras_squeeze artifact at {name!r}; plain Keras files "
            "are opened by keras.models.load_model. Received: an HDF5 file "
            f"with {sorted(item.decode(errors='replace') for item in names)}"
        )


def _only_child(parent: Any, expected: bytes, name: str) -> Any:
    if not isinstance(parent, h5py.h5g.GroupID):
        raise UnsafeArtifactError(
            f"Expected a group above {expected.decode()!r} in {name!r}. "
            f"Received: {type(parent).__name__}"
        )
    count = parent.get_num_objs()
    hard = count == 1 and parent.links.exists(expected)
    hard = hard and parent.links.get_info(expected).type == h5py.h5l.TYPE_HARD
    if not hard:
        raise UnsafeArtifactError(
            f"Expected one hard link, {expected.decode()!r}, in its group in "
            f"{name!r}. Received: {count} links, or a link of another kind"
        )
    return h5py.h5o.open(parent, expected)


def _attribute_names(owner: Any) -> set[bytes]:
    count = h5py.h5a.get_num_attrs(owner)
    return {
        h5py.h5a.open(owner, index=index).name
        for index in range(min(count, 64))
    }


def _check_attributes(owner: Any, expected: set[bytes], name: str) -> None:
    if (
        h5py.h5a.get_num_attrs(owner) != len(expected)
        or _attribute_names(owner) != expected
    ):
        raise UnsafeArtifactError(
            f"Expected the attributes {sorted(expected)} in {name!r}. "
            f"Received: {sorted(_attribute_names(owner))}"
        )


def _check_dataset(dataset: Any, name: str) -> None:
    problem = _dataset_problem(dataset)
    if problem:
        raise UnsafeArtifactError(
            f"Expected a plain one-dimensional uint8 dataset in {name!r}. "
            f"Received: {problem}"
        )


def _dataset_problem(dataset: Any) -> str:
    if not isinstance(dataset, h5py.h5d.DatasetID):
        return type(dataset).__name__
    created = dataset.get_create_plist()
    if created.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT):
        return f"storage layout {created.get_layout()}"
    if created.get_external_count():
        return "a dataset stored in another file"
    if created.get_nfilters():
        return "a filtered dataset"
    if dataset.get_type() != h5py.h5t.STD_U8LE or len(dataset.shape) != 1:
        return f"dtype {dataset.dtype}, shape {dataset.shape}"
    if dataset.get_storage_size() != dataset.shape[0]:
        return f"{dataset.get_storage_size()} bytes for {dataset.shape[0]}"
    return ""
