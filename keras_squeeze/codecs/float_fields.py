"""Lossless floating point: exponents modelled, mantissas stored.

An exponent tells how large a weight is, and that depends on its row, its
column and sometimes its neighbours. Most of the mantissa is noise, which no
coder makes smaller. `float_fields_split` says where a float is cut in two,
`float_fields_classes` which table the first half is coded with. A complex
number is two floats along one more axis.

Layout:

- byte: 0, and the array as `raw` writes it follows; 1, fields; 2, a palette;
- byte: the mantissa bits in a head (bits 0-3, at most 4; 0 with a palette);
  whether symbols hold the sign (bit 4; not set with a palette), elements
  between neighbours come second (bit 5), rows of the first axis have grains
  of their own (bit 6; not set with a palette); bit 7 is zero;
- with a palette: the palette, as `float_fields_palette` describes it;
- else: varint, the least head of any value but zero; byte, the trim; varint,
  the least grain, at most 4096; if rows have their own, a list of what is
  added;
- varint: a bit for each axis, the first one lowest, that has offsets; then
  for each such axis a list of them. Their greatest sum is at most 255;
- if elements between neighbours come second: a byte, the axis; a varint, the
  greatest usual exponent; a byte, how many edges follow; these as signed
  varints, ascending;
- for each class of all elements, or of those that come first, that has any:
  a varint with a number of bytes, and what `rans` writes for its symbols in C
  order as an array of uint16;
- the same for each class of the elements that come second;
- the tails of one width after those of the next smaller, in C order: the bits
  above whole bytes as one run, then a plane of bytes for each whole byte, the
  least significant first.

A list of numbers of a byte is a varint, the number of bytes that follow the
next one; a byte, 0 raw, 1 constant, 2 bitpack, 3 deflate; what that codec
writes.

An array without elements is no bytes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.byte_planes import BytePlanes
from keras_squeeze.codecs.codec import Codec, EncodedItem
from keras_squeeze.codecs.float_fields_reading import (
    Fields,
    decode_symbols,
    join,
    read_header,
)
from keras_squeeze.codecs.float_fields_writing import encode_fields
from keras_squeeze.codecs.raw import Raw

_RAW, _PALETTE = 0, 2
_RAW_CODEC = Raw()
_SAME_ARRAYS = BytePlanes()


class FloatFields(Codec):
    """Splits floats into fields and models those that are no noise.

    Works for every floating point and complex dtype, bit for bit. About a
    sixth smaller than float32 weights as they come out of training, a third
    than bfloat16; pruned or rounded weights shrink accordingly. Never more
    than a byte larger than the array.

    Example:
    >>> import numpy as np
    >>> kernel = np.random.default_rng(0).normal(0, 0.1, (64, 64))
    >>> len(FloatFields().encode(kernel.astype("float32"))) < 0.85 * 4 * 64**2
    True
    """

    id: ClassVar[str] = "float_fields"

    def supports(self, array: np.ndarray) -> bool:
        """Whether the dtype is a floating point or complex one."""
        return _SAME_ARRAYS.supports(array)

    def size_hint(self, array: np.ndarray) -> int:
        """Unknown for small arrays, else half of what the planes promise.

        Few distinct values, grains and neighbours make an array smaller than
        the entropies of its bytes tell.
        """
        return _SAME_ARRAYS.size_hint(array) // 2

    def encode(self, array: np.ndarray) -> bytes:
        """Codes the elements in C order."""
        self.require_support(array)
        if array.size == 0:
            return b""
        data = encode_fields(array)
        if len(data) <= array.nbytes:
            return data
        return bytes([_RAW]) + _RAW_CODEC.encode(array)

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Decodes one array; see `Codec.decode`."""
        return self.decode_many([(data, shape, dtype)])[0]

    def decode_many(self, items: Sequence[EncodedItem]) -> list[np.ndarray]:
        """Decodes the symbols of all arrays at once."""
        parsed = [self._parse(*item) for item in items]
        decode_symbols([p for p in parsed if isinstance(p, Fields)])
        return [
            join(p) if isinstance(p, Fields) else _RAW_CODEC.decode(*p)
            for p in parsed
        ]

    def _parse(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> Fields | EncodedItem:
        dtype = dtypes.dtype_from_name(dtype)
        count = dtypes.element_count(shape, dtype)
        cursor = ByteCursor(data, self.id)
        if dtypes.is_integer(dtype):
            raise cursor.fail("a floating point dtype", dtype.name)
        if count == 0:
            cursor.finish()
            return b"", shape, dtype
        mode = cursor.varint(_PALETTE)
        if mode == _RAW:
            return cursor.take_rest(), shape, dtype
        return read_header(cursor, tuple(shape), dtype, mode == _PALETTE)
