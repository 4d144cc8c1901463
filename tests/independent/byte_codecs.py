"""The compressors of bytes, from docs/codec_formats.md alone.

What these formats are is said elsewhere; libraries decode most of them.
"""

import bz2
import lzma
import math

import numpy as np

from tests.independent.bit_codecs import lzw
from tests.independent.codecs import Data
from tests.independent.lzo import decompress


def brotli(data, size):
    import cramjam

    stored = Data(data)
    length, rest = stored.varint(), stored.read()
    assert length == len(rest)
    return bytes(cramjam.brotli.decompress(rest))


def lzo(data, size):
    stored, out = Data(data), b""
    while len(out) < size:
        block = decompress(stored.read(stored.varint()))
        assert len(block) == min(65536, size - len(out))
        out += block
    assert not stored.read()
    return out


def library(name, function="decompress"):
    def decode(data, size):
        import cramjam

        return bytes(getattr(getattr(cramjam, name), function)(data))

    return decode


DECODERS = {
    "lzw": lzw,
    "lzo": lzo,
    "brotli": brotli,
    "zstd": library("zstd"),
    "lz4": library("lz4"),
    "snappy": library("snappy", "decompress_raw"),
    "xz": lambda data, size: lzma.decompress(data),
    "bzip2": lambda data, size: bz2.decompress(data),
}


def decode(data, codec, dtype, shape, shuffle=False):
    size = math.prod(shape) * dtype.itemsize
    plain = DECODERS[codec](data.read(), size)
    assert len(plain) == size
    if shuffle:
        word = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        plain = np.frombuffer(plain, "u1").reshape(word, -1).T.tobytes()
    return np.frombuffer(plain, dtype).reshape(shape)
