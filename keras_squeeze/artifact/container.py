"""Makes the HDF5 skeleton that stands before a stream.

The skeleton is what Keras' own loader of whole-model `.h5` files asks for, and
nothing more: three root attributes, two groups, one contiguous `uint8` dataset.
Keras finds a model of the registered class `keras_squeeze>SqueezedModel` whose
only weight is the stream. `hdf5_skeleton` reads exactly this layout.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_squeeze.artifact.skeleton_layout import (
    BACKEND,
    DATASET,
    GROUP,
    KERAS_VERSION,
    LAYER_NAMES,
    MAX_VERSION_BYTES,
    MODEL_CONFIG,
    TOP,
    WEIGHT_NAMES,
    model_config,
)
from keras_squeeze.errors import ArtifactError

if TYPE_CHECKING:
    import h5py


def skeleton_start(
    stream_bytes: int, keras_version: str, backend: str
) -> bytes:
    """What stands in a file before its stream, which is all the rest of it.

    Equal input gives equal bytes. The file is made in memory and one byte of
    its dataset written, so that the stream may be of any size and need not
    exist yet.

    Args:
        stream_bytes: Integer. Size of the stream.
        keras_version: String. Recorded for Keras' loader.
        backend: String. Recorded for Keras' loader.

    Returns:
        Bytes.

    Raises:
        ArtifactError: If a version is longer than a reader takes.
    """
    versions = {
        KERAS_VERSION: _checked(keras_version),
        BACKEND: _checked(backend),
    }
    memory = io.BytesIO()
    with _create(memory) as file:
        _set_attribute(file, MODEL_CONFIG, model_config(stream_bytes))
        group = _create_group(file, GROUP)
        group.attrs.create(LAYER_NAMES, np.array([], "S1"))
        for owner in (file, group):
            for name, value in versions.items():
                _set_attribute(owner, name, value)
        top = _create_group(group, TOP)
        top.attrs.create(WEIGHT_NAMES, np.array([DATASET.encode()]))
        stream = top.create_dataset(
            DATASET, (stream_bytes,), "uint8", track_times=False
        )
        # A dataset is given its place in the file when it is first written.
        stream[:1] = 0
        offset = stream.id.get_offset()
    return memory.getvalue()[:offset]


def _checked(version: str) -> bytes:
    encoded = version.encode()
    if not 0 < len(encoded) <= MAX_VERSION_BYTES:
        raise ArtifactError(
            f"Expected a version of 1 to {MAX_VERSION_BYTES} bytes. "
            f"Received: {version!r}"
        )
    return encoded


def _create(memory: io.BytesIO) -> h5py.File:
    import h5py

    # Times are off, the library's format version is pinned and metadata is
    # not padded: else equal models would give different and larger files.
    created = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    created.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    access.set_meta_block_size(1)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, memory)
    opened = h5py.h5f.create(b"memory", h5py.h5f.ACC_TRUNC, created, access)
    return h5py.File(opened)


def _create_group(parent: Any, name: str) -> h5py.Group:
    import h5py

    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_obj_track_times(False)
    created = h5py.h5g.create(parent.id, name.encode(), gcpl=properties)
    return h5py.Group(created)


def _set_attribute(owner: Any, name: str, value: bytes) -> None:
    owner.attrs.create(name, np.bytes_(value))
