"""Reads artifacts: container, manifest, encodings, as docs/format.md says.

Written from that page alone; it imports nothing of the package, so that the
page stands a test.
"""

import hashlib
import json
import struct
import zlib

import h5py
import numpy as np

from tests.independent_codecs import Data

NF4 = """-1 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453
-0.28444138169288635 -0.18477343022823334 -0.09105003625154495 0
0.07958029955625534 0.16093020141124725 0.24611230194568634 0.33791524171829224
0.44070982933044434 0.5626170039176941 0.7229568362236023 1"""


def read(path):
    """The tensors of a file by name; those that we cannot decode are None."""
    with h5py.File(path) as file:
        top = file["model_weights/top_level_model_weights"]
        data = top["stream"][()].tobytes()
    magic, version, flags, size = struct.unpack_from("<8sHHI", data)
    assert (magic, version, flags) == (b"\x89KSQ\r\n\x1a\n", 1, 0)
    text, payload = data[60 : 60 + size], data[60 + size :]
    assert hashlib.sha256(data[8:28] + text).digest() == data[28:60]
    manifest = json.loads(zlib.decompress(text, -15))
    assert set(manifest["requires"]) <= {"affine", "codebook"}
    assert len(payload) == manifest["payload"]["bytes"]
    assert hashlib.sha256(payload).hexdigest() == manifest["payload"]["sha256"]
    rest = Data(payload)
    out = {}
    for tensor in manifest["tensors"]:
        sizes = [part["bytes"] for part in tensor["parts"]]
        stored = rest.read(sum(sizes))
        assert zlib.crc32(stored) == tensor["crc32"]
        out[tensor["name"]] = variable(tensor, Data(stored))
    return out


def variable(tensor, data):
    arrays = {}
    for part in (tensor | own for own in tensor["parts"]):
        stored, codec = Data(data.read(part["bytes"])), part["codec"]
        codec = codec if isinstance(codec, str) else codec["id"]
        if not hasattr(Data, codec):
            return None
        dtype, count = np.dtype(part["dtype"]), int(np.prod(part["shape"]))
        array = getattr(stored, codec)(dtype, count) if count else []
        array = np.asarray(array, dtype).reshape(part["shape"])
        arrays[part.get("role", "values")] = array
    decode = {"values": lambda values: values, "packed": packed}
    decode = decode.get(tensor.get("encoding", "values"), scaled)
    return decode(**arrays, **tensor.get("parameters", {})).astype(
        tensor["dtype"]
    )


def packed(codes, width):
    fields = np.zeros((8 // width, -(-codes.size * width // 8)), "u1")
    fields.flat[: codes.size] = codes < 0 if width == 1 else codes % 2**width
    return sum(row << i * width for i, row in enumerate(fields))


def scaled(codes, scale, axis, bits, group_size, codebook=None, zero_point=0):
    front = np.moveaxis(codes, axis, range(len(axis)))
    rows = front.reshape(len(scale), -1).astype(int)
    if codebook is not None:
        if isinstance(codebook, str):
            codebook = fixed(codebook, bits)
        index = (rows + 1) // 2 if bits == 1 else rows + 2 ** (bits - 1)
        levels = np.broadcast_to(codebook, (len(rows), 2**bits))
        rows = np.take_along_axis(levels, index, 1)
    group = np.arange(rows.shape[1]) // (group_size or rows.shape[1])
    values = rows.astype("f4") * scale[:, group]
    return np.moveaxis(values.reshape(front.shape), range(len(axis)), axis)


def fixed(name, bits):
    if name == "nf4":
        return np.array(NF4.split(), "f4")
    n, i = min(2 ** (bits - 1) - 1, 63), np.arange(1, 2 ** (bits - 1))
    kinds = {"float8_e4m3": (8, 7, 126), "float8_e5m2": (4, 15, 123)}
    steps, bias, count = kinds.get(name, (1, n, n))
    exponents, parts = np.divmod(i, steps)
    scale = 2.0 ** (np.maximum(exponents, 1) - bias)
    up = np.where(i <= count, (parts / steps + (exponents > 0)) * scale, 0)
    # Adding zero makes positive zeros of negative ones.
    return np.concatenate([[0], -up[::-1], [0], up]).astype("f4") + 0
