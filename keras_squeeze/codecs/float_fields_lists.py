"""Short lists of numbers of a byte in the headers of `float_fields`."""

from __future__ import annotations

import numpy as np

from keras_squeeze.codecs.bitpack import Bitpack
from keras_squeeze.codecs.byte_cursor import ByteCursor, varint
from keras_squeeze.codecs.codec import Codec
from keras_squeeze.codecs.constant import Constant
from keras_squeeze.codecs.deflate import Deflate
from keras_squeeze.codecs.raw import Raw
from keras_squeeze.codecs.selection import smallest

# What a list may be coded with; its place is what the bytes say.
_CODECS: tuple[Codec, ...] = (Raw(), Constant(), Bitpack(), Deflate())
_TAGS = {codec.id: tag for tag, codec in enumerate(_CODECS)}


def write_list(numbers: np.ndarray) -> bytes:
    """A uint8 array as bytes."""
    codec, data = smallest(numbers, _CODECS)
    return varint(len(data)) + bytes([_TAGS[codec.id]]) + data


def read_list(cursor: ByteCursor, count: int) -> np.ndarray:
    """Reads what `write_list` wrote.

    Args:
        cursor: ByteCursor at the first byte of the list.
        count: Integer. How many numbers there are.

    Returns:
        uint8 array.
    """
    size = cursor.varint(cursor.remaining)
    codec = _CODECS[cursor.varint(len(_CODECS) - 1)]
    return codec.decode(cursor.take(size), (count,), np.uint8)
