"""Arrays that are mostly one value: where the others are, and what they are.

Layout, for `n` elements:

- varint: the bit pattern of the *fill*, the value of most elements;
- varint: how many elements differ from it, at most half; if none does,
  nothing follows;
- byte: the Golomb-Rice parameter;
- the positions of those elements, as `gaps` describes them;
- byte: what codes their values: 0 raw, 1 constant, 2 bitpack, 3 rans,
  4 byte_planes;
- what that codec writes for the values, up to the end of the data.

An array without elements is no bytes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from keras_squeeze.codecs import dtypes, gaps
from keras_squeeze.codecs.batch import decode_all
from keras_squeeze.codecs.bitpack import Bitpack
from keras_squeeze.codecs.blocks import count_values
from keras_squeeze.codecs.byte_cursor import ByteCursor, varint
from keras_squeeze.codecs.byte_planes import BytePlanes
from keras_squeeze.codecs.codec import Codec, EncodedItem
from keras_squeeze.codecs.constant import Constant
from keras_squeeze.codecs.rans import Rans, entropy_bits
from keras_squeeze.codecs.raw import Raw
from keras_squeeze.codecs.selection import smallest

_VALUE_CODECS: tuple[Codec, ...] = (
    Raw(),
    Constant(),
    Bitpack(),
    Rans(),
    BytePlanes(),
)
_MAX_PARAMETER = 48
# Wider dtypes are only searched for zeros: finding their most frequent value
# would mean sorting them.
_COUNTABLE_BYTES = 2


class _Parsed(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: int
    differs: np.ndarray
    values: tuple[Codec, EncodedItem] | None


class Sparse(Codec):
    """Positions of the exceptions as gaps, their values coded apart.

    Beats `rans` where almost everything is zero, and keeps the exact floats
    of pruned kernels that were not quantized.

    Example:
    >>> import numpy as np
    >>> kernel = np.zeros((300, 100), "float32")
    >>> kernel[::50, ::20] = 0.5
    >>> len(Sparse().encode(kernel)) < 60
    True
    """

    id: ClassVar[str] = "sparse"

    def supports(self, array: np.ndarray) -> bool:
        """Whether the dtype is real and at least half has one value."""
        if not dtypes.is_supported(array.dtype) or array.dtype.kind == "c":
            return False
        bits = dtypes.bit_patterns(array)
        if bits.size == 0:
            return True
        others = np.count_nonzero(_differing(bits, _fill(bits)))
        return 2 * int(others) <= bits.size

    def size_hint(self, array: np.ndarray) -> int:
        """The size of the positions and the least that values can take."""
        if array.size == 0:
            return 0
        bits = dtypes.bit_patterns(array)
        differs = _differing(bits, _fill(bits))
        if not differs.any():
            return 2
        length = gaps.best_parameter(differs)[1]
        return (length + _least_bits(bits[differs], array.dtype)) // 8 + 4

    def encode(self, array: np.ndarray) -> bytes:
        """Codes the elements in C order."""
        self.require_support(array)
        if array.size == 0:
            return b""
        bits = dtypes.bit_patterns(array)
        fill = _fill(bits)
        differs = _differing(bits, fill)
        others = int(np.count_nonzero(differs))
        header = varint(fill) + varint(others)
        if not others:
            return header
        parameter, _ = gaps.best_parameter(differs)
        values = dtypes.flat_native(array)[differs]
        codec, data = smallest(values, _VALUE_CODECS)
        tag = _VALUE_CODECS.index(codec)
        where = gaps.write(differs, parameter)
        return b"".join([header, bytes([parameter]), where, bytes([tag]), data])

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Decodes one array; see `Codec.decode`."""
        return self.decode_many([(data, shape, dtype)])[0]

    def decode_many(self, items: Sequence[EncodedItem]) -> list[np.ndarray]:
        """Decodes the values of all arrays at once."""
        parsed = [self._parse(*item) for item in items]
        values = iter(
            decode_all([p.values for p in parsed if p.values is not None])
        )
        out = []
        for shape, dtype, fill, differs, coded in parsed:
            count = dtypes.element_count(shape, dtype)
            bits = np.full(count, fill, f"u{dtype.itemsize}")
            if coded is not None:
                bits[differs] = dtypes.bit_patterns(next(values))
            out.append(dtypes.from_bit_patterns(bits, shape, dtype))
        return out

    def _parse(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> _Parsed:
        dtype = dtypes.dtype_from_name(dtype)
        count = dtypes.element_count(shape, dtype)
        cursor = ByteCursor(data, self.id)
        if dtype.kind == "c":
            raise cursor.fail("a real dtype", dtype.name)
        greatest = 1 if dtype.kind == "b" else (1 << 8 * dtype.itemsize) - 1
        fill = cursor.varint(greatest) if count else 0
        others = cursor.varint(count // 2) if count else 0
        if not others:
            cursor.finish()
            nowhere = np.empty(0, bool)
            return _Parsed(tuple(shape), dtype, fill, nowhere, None)
        parameter = cursor.byte()
        if parameter > _MAX_PARAMETER:
            raise cursor.fail(f"at most {_MAX_PARAMETER}", parameter)
        differs = gaps.read(cursor, others, parameter, count)
        tag = cursor.byte()
        if tag >= len(_VALUE_CODECS):
            raise cursor.fail("the tag of a codec", tag)
        values = cursor.take_rest(), (others,), dtype
        coded = _VALUE_CODECS[tag], values
        return _Parsed(tuple(shape), dtype, fill, differs, coded)


def _fill(bits: np.ndarray) -> int:
    if bits.itemsize > _COUNTABLE_BYTES:
        return 0
    return int(count_values(bits).argmax())


def _differing(bits: np.ndarray, fill: int) -> np.ndarray:
    """Which elements are not the fill."""
    found: np.ndarray = bits != bits.dtype.type(fill)
    return found


def _least_bits(values: np.ndarray, dtype: np.dtype[Any]) -> int:
    if values.itemsize > _COUNTABLE_BYTES:
        return 0
    # Floats of two bytes are coded byte by byte: no more is known of them.
    if dtype.kind not in "biu":
        return 0
    return int(entropy_bits(count_values(values)))
