"""Files that look like an artifact but for one thing, built with h5py.

`build` makes the very layout of our writer, version of HDF5 and all, so that
what is refused is the one thing that a test adds, and not its company.
"""

import h5py
import numpy as np

from keras_squeeze.artifact.hdf5_objects import SUPERBLOCK_BYTES, read_object
from keras_squeeze.artifact.lookup3 import lookup3
from keras_squeeze.artifact.skeleton_layout import model_config
from keras_squeeze.artifact.sources import BytesSource

GROUP = "model_weights"
TOP = f"{GROUP}/top_level_model_weights"
STREAM = f"{TOP}/stream"


def create(path, **options):
    """A new file of the writer's version of HDF5, without times."""
    created = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    created.set_obj_track_times(False)
    if "userblock" in options:
        created.set_userblock(options["userblock"])
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    bounds = options.get("libver", (h5py.h5f.LIBVER_V18,) * 2)
    access.set_libver_bounds(*bounds)
    access.set_meta_block_size(1)
    name = str(path).encode()
    return h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, created, access))


def create_group(parent, name):
    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(parent.id, name, gcpl=properties))


def plain_stream(group, data):
    group.create_dataset("stream", data=data, track_times=False)


def build(path, data, make=plain_stream, change=None, **options):
    """Writes our skeleton around `data`, with one thing changed.

    Args:
        path: Path to write.
        data: uint8 array, the stream.
        make: Callable of group and data that makes `stream`.
        change: Optional callable of the open file, called before that.
        **options: Of `create`.
    """
    strings = {"keras_version": b"3.15.1", "backend": b"tensorflow"}
    with create(path, **options) as file:
        file.attrs.create("model_config", np.bytes_(model_config(data.size)))
        group = create_group(file, GROUP.encode())
        group.attrs.create("layer_names", np.array([], "S1"))
        for owner in (file, group):
            for name, value in strings.items():
                owner.attrs.create(name, np.bytes_(value))
        top = create_group(group, b"top_level_model_weights")
        top.attrs.create("weight_names", np.array([b"stream"]))
        if change is not None:
            change(file)
        make(top, data)


def regions_of_metadata(data):
    """The parts of an intact file that end with a checksum: start, stop."""
    source = BytesSource(data, "file")
    found = [(0, SUPERBLOCK_BYTES)]
    addresses = [int.from_bytes(data[36:44], "little")]
    while addresses:
        messages, regions = read_object(source, addresses.pop())
        found += [(region.start, region.stop) for region in regions]
        addresses += [
            int.from_bytes(message.body[-8:], "little")
            for message in messages
            if message.kind == 0x06
        ]
    return sorted(found)


def reseal(data, regions):
    """Gives changed metadata checksums that match, as an attacker would."""
    data = bytearray(data)
    for start, stop in regions:
        checksum = lookup3(bytes(data[start : stop - 4]))
        data[stop - 4 : stop] = checksum.to_bytes(4, "little")
    return bytes(data)
