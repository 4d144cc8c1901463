"""Integers of one width as `float_fields` stores the tails of floats.

The bits above whole bytes come first, as one run, then a plane of bytes for
each whole byte, the least significant first. No more of an integer is kept in
memory than its own bytes, and it is put together a block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_squeeze.codecs import bits
from keras_squeeze.codecs.blocks import blocks
from keras_squeeze.codecs.byte_cursor import ByteCursor

_LITTLE = np.dtype("=u2") == np.dtype("<u2")


class TailPacker:
    """Takes integers in order and gives their bytes.

    Args:
        count: Integer. How many there will be.
        width: Integer. How many bits each has.
    """

    def __init__(self, count: int, width: int) -> None:
        whole, self._odd = divmod(width, 8)
        self._top = np.empty(count if self._odd else 0, np.uint8)
        self._planes = np.empty((whole, count), np.uint8)

    def put(self, start: int, values: np.ndarray) -> None:
        """Takes some of the integers.

        Args:
            start: Integer. How many were taken before.
            values: One-dimensional unsigned array.
        """
        stop, whole = start + values.size, len(self._planes)
        if self._odd:
            shift = values.dtype.type(8 * whole)
            self._top[start:stop] = values >> shift
        planes = values.view(np.uint8).reshape(values.size, values.itemsize)
        for place in range(whole):
            column = planes[:, _column(place, values.itemsize)]
            self._planes[place, start:stop] = column

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes, piece by piece; nothing is left afterwards."""
        top, self._top = self._top, self._top[:0]
        # Blocks of whole bytes, for on the way every bit is a byte.
        for block in blocks(top.size):
            yield bits.pack_fixed(top[block], self._odd)
        for plane in self._planes:
            yield plane.data


class TailReader:
    """Reads what a `TailPacker` wrote.

    Args:
        cursor: ByteCursor at the first byte.
        count: Integer. How many integers there are.
        width: Integer. How many bits each has.
        word: Their type.

    Raises:
        CorruptArtifactError: If there are not so many bytes, or the last of a
            run is not filled with zero bits.
    """

    def __init__(
        self,
        cursor: ByteCursor,
        count: int,
        width: int,
        word: type[np.unsignedinteger],
    ) -> None:
        whole, odd = divmod(width, 8)
        self._word, self._top = np.dtype(word), None
        if odd:
            packed = cursor.take(bits.packed_size(count, odd))
            if not bits.padding_is_zero(packed, count * odd):
                raise cursor.fail("zero bits after the tails", packed[-1])
            self._top = bits.unpack_fixed(packed, count, odd)
        self._planes = [
            np.frombuffer(cursor.take(count), np.uint8) for _ in range(whole)
        ]

    def take(self, start: int, count: int) -> np.ndarray:
        """So many integers from one on."""
        out = np.zeros(count, self._word)
        stop = start + count
        if self._top is not None:
            out |= self._top[start:stop]
            out <<= self._word.type(8 * len(self._planes))
        native = out.view(np.uint8).reshape(count, out.itemsize)
        for place, plane in enumerate(self._planes):
            native[:, _column(place, out.itemsize)] = plane[start:stop]
        return out


def _column(place: int, itemsize: int) -> int:
    """Where in memory the byte of a place is, the least one being 0."""
    return place if _LITTLE else itemsize - 1 - place


def pack(values: np.ndarray, width: int) -> bytes:
    """Integers of one width as bytes.

    Args:
        values: One-dimensional unsigned array.
        width: Integer. How many bits each has.
    """
    packer = TailPacker(values.size, width)
    packer.put(0, values)
    return b"".join(packer.pieces())


def unpack(
    cursor: ByteCursor, count: int, width: int, word: type[np.unsignedinteger]
) -> np.ndarray:
    """Undoes `pack`; arguments are those of `TailReader`."""
    return TailReader(cursor, count, width, word).take(0, count)
