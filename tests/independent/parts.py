"""Decodes a part of a tensor, in whichever codec."""

import math

import ml_dtypes
import numpy as np

from tests.independent import (
    bit_codecs,
    byte_codecs,
    class_rans,
    context_mixing,
    float_fields,
)

LONG = {
    "class_rans": class_rans.decode,
    "context_mixing": context_mixing.decode,
    "float_fields": float_fields.decode,
    "huffman": bit_codecs.huffman,
}


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def settings(codec):
    return codec if isinstance(codec, dict) else {"id": codec}


def decode(data, codec, dtype, shape):
    """An array in a codec that compares nothing."""
    name = settings(codec)["id"]
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    if name in LONG:
        return LONG[name](data, dtype, shape)
    if name in byte_codecs.DECODERS:
        shuffle = settings(codec).get("shuffle", False)
        return byte_codecs.decode(data, name, dtype, shape, shuffle)
    return getattr(data, name)(dtype, math.prod(shape)).reshape(shape)
