"""The pieces that a stream of `float_residual` is put together from.

A *list* is a varint, the number of bytes that follow the next one; a byte, 0
raw, 1 constant, 2 bitpack, 3 deflate, 4 rans, 5 sparse; what that codec
writes. *Bits* are values of known widths: those of one width after those of
the next smaller, each width as the bits above whole bytes, then a plane of
bytes for each whole byte, the least significant first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_squeeze.codecs.batch import decode_all
from keras_squeeze.codecs.bitpack import Bitpack
from keras_squeeze.codecs.byte_cursor import ByteCursor, varint
from keras_squeeze.codecs.codec import Codec, EncodedItem
from keras_squeeze.codecs.constant import Constant
from keras_squeeze.codecs.deflate import Deflate
from keras_squeeze.codecs.float_fields_tails import pack, unpack
from keras_squeeze.codecs.rans import Rans
from keras_squeeze.codecs.raw import Raw
from keras_squeeze.codecs.selection import smallest
from keras_squeeze.codecs.sparse import Sparse

_CODECS: tuple[Codec, ...] = (
    Raw(),
    Constant(),
    Bitpack(),
    Deflate(),
    Rans(),
    Sparse(),
)
_TAGS = {codec.id: tag for tag, codec in enumerate(_CODECS)}
# Deflate is slow and finds nothing in many symbols without a pattern.
_SHORT = 1 << 12

Item = tuple[Codec, EncodedItem]


def write_list(numbers: np.ndarray) -> bytes:
    """An array of integers as bytes."""
    able = [c for c in _CODECS if numbers.size <= _SHORT or c.id != "deflate"]
    codec, data = smallest(numbers, able)
    return varint(len(data)) + bytes([_TAGS[codec.id]]) + data


def find_list(cursor: ByteCursor, count: int, dtype: Any) -> Item:
    """A list that is yet to be decoded, with `decode_all`."""
    size = cursor.varint(cursor.remaining)
    codec = _CODECS[cursor.varint(len(_CODECS) - 1)]
    return codec, (cursor.take(size), (count,), np.dtype(dtype))


def read_list(cursor: ByteCursor, count: int, dtype: Any) -> np.ndarray:
    """Reads what `write_list` wrote."""
    return decode_all([find_list(cursor, count, dtype)])[0]


def write_bits(values: np.ndarray, widths: np.ndarray) -> bytes:
    """Values of their own widths.

    Args:
        values: uint64 array of one dimension.
        widths: int64 array of that size, each at most 64.

    Returns:
        Bytes.
    """
    return b"".join(
        pack(values[widths == width], width) for width in _used(widths)
    )


def read_bits(cursor: ByteCursor, widths: np.ndarray) -> np.ndarray:
    """Reads what `write_bits` wrote."""
    needed = int((widths + 7 >> 3).sum()) // 8
    if needed > cursor.remaining:
        raise cursor.fail(f"{needed} more bytes", cursor.remaining)
    out = np.zeros(widths.size, np.uint64)
    for width in _used(widths):
        places = np.flatnonzero(widths == width)
        out[places] = unpack(cursor, places.size, width, np.uint64)
    return out


def _used(widths: np.ndarray) -> Sequence[int]:
    found: list[int] = np.flatnonzero(np.bincount(widths, minlength=1)).tolist()
    return [width for width in found if width]
