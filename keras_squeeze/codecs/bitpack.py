"""Integers in as few bits as their range needs.

Layout:

- byte: the width `w` in bits, 0..64;
- signed varint: the least value `low`;
- the differences `value - low` in C order, `w` bits each, most significant
  bit first; the last byte is filled with zero bits.

An array without elements is no bytes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import bits, dtypes
from keras_squeeze.codecs.byte_cursor import ByteCursor, signed_varint
from keras_squeeze.codecs.codec import Codec

_MAX_HEADER_BYTES = 11


class Bitpack(Codec):
    """Fixed-width integers: `ceil(log2(max - min + 1))` bits each.

    Example:
    >>> import numpy as np
    >>> len(Bitpack().encode(np.arange(-8, 8, dtype="int8")))
    10
    """

    id: ClassVar[str] = "bitpack"

    def supports(self, array: np.ndarray) -> bool:
        """Whether the array holds integers or booleans."""
        return dtypes.is_supported(array.dtype) and dtypes.is_integer(
            array.dtype
        )

    def size_hint(self, array: np.ndarray) -> int:
        """The size but for the few bytes of the header."""
        if array.size == 0:
            return 0
        span = int(array.max()) - int(array.min())
        return 2 + bits.packed_size(array.size, span.bit_length())

    def encode(self, array: np.ndarray) -> bytes:
        """Packs the elements in C order."""
        self.require_support(array)
        if array.size == 0:
            return b""
        flat = dtypes.flat_native(array)
        low, high = int(flat.min()), int(flat.max())
        width = (high - low).bit_length()
        packed = bits.pack_fixed(subtract_offset(flat, low), width)
        return bytes([width]) + signed_varint(low) + packed

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Unpacks the elements; see `Codec.decode`."""
        dtype = dtypes.dtype_from_name(dtype)
        count = dtypes.element_count(shape, dtype)
        cursor = ByteCursor(data, self.id)
        if not dtypes.is_integer(dtype):
            raise cursor.fail("an integer dtype", dtype.name)
        if count == 0:
            cursor.finish()
            return np.empty(tuple(shape), dtype)
        width = cursor.byte()
        if width > 8 * dtype.itemsize:
            raise cursor.fail(f"a width that fits {dtype.name}", width)
        low, high = dtypes.integer_range(dtype)
        low = cursor.signed_varint(low, high)
        packed = cursor.take(bits.packed_size(count, width))
        cursor.finish()
        if not bits.padding_is_zero(packed, count * width):
            raise cursor.fail("zero bits after the last element", packed[-1])
        offsets = bits.unpack_fixed(packed, count, width)
        if int(offsets.max()) > high - low:
            raise cursor.fail(f"values of at most {high}", int(offsets.max()))
        return add_offset(offsets, low, dtype).reshape(tuple(shape))


def subtract_offset(flat: np.ndarray, low: int) -> np.ndarray:
    """`flat - low` as unsigned integers of the same width, never overflowing.

    Args:
        flat: Native integers or booleans.
        low: Integer. Their least value.

    Returns:
        Unsigned array.
    """
    unsigned = flat.view(f"u{flat.dtype.itemsize}")
    # Modular arithmetic: the difference fits even where the values do not.
    modulus = 1 << 8 * unsigned.dtype.itemsize
    offsets: np.ndarray = unsigned - unsigned.dtype.type(low % modulus)
    return offsets


def add_offset(
    offsets: np.ndarray, low: int, dtype: np.dtype[Any]
) -> np.ndarray:
    """Undoes `subtract_offset` into the integer dtype given."""
    unsigned = offsets.astype(f"u{dtype.itemsize}")
    unsigned += unsigned.dtype.type(low % (1 << 8 * dtype.itemsize))
    return unsigned.view(dtype)
