"""Artifacts made without an encoder: hostile ones, and large ones quickly."""

import json
import zlib
from hashlib import sha256

from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.artifact.stream import pack_stream_start


def file_of(manifest, payload):
    """A file whose every digest and size is right but for what is in it.

    Args:
        manifest: Bytes, the manifest's JSON.
        payload: Bytes.
    """
    stream = pack_stream_start(manifest, len(payload)) + payload
    return skeleton_start(len(stream), "3.15.1", "tensorflow") + stream


def file_of_records(records, payload):
    """A file with these tensor records, as JSON has them."""
    digest = sha256(payload).hexdigest()
    manifest = {
        "model": {"class_name": "Sequential", "name": "m", "config": None},
        "payload": {"bytes": len(payload), "sha256": digest},
        "tensors": records,
    }
    return file_of(json.dumps(manifest).encode(), payload)


def record_of(name, codec, data, shape, dtype):
    """The record of a tensor whose stored bytes are `data`."""
    return {
        "name": name,
        "dtype": dtype,
        "shape": list(shape),
        "crc32": zlib.crc32(data),
        "parts": [{"bytes": len(data), "codec": codec}],
    }


def raw_file(arrays):
    """A file that stores arrays, by name, as they are."""
    stored = {name: array.tobytes() for name, array in arrays.items()}
    records = [
        record_of(name, "raw", stored[name], array.shape, array.dtype.name)
        for name, array in arrays.items()
    ]
    return file_of_records(records, b"".join(stored.values()))


def bomb(codec, data, shape, dtype):
    """A file whose one tensor is said to be of that shape."""
    return file_of_records([record_of("bomb", codec, data, shape, dtype)], data)
