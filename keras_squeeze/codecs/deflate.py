"""General-purpose compression by the standard library: finds repetition.

Layout: one raw DEFLATE stream (RFC 1951, no zlib or gzip frame) of the
little-endian bytes that `raw` writes. An array without elements is no bytes
at all.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.codec import Codec, describe
from keras_squeeze.codecs.raw import check_bool
from keras_squeeze.errors import CorruptArtifactError

_RAW_STREAM = -15
# How far back deflate can refer: what follows a window shows the ratio that
# the rest of the array will have.
_WINDOW_BYTES = 1 << 15
# The probe uses a faster level and sees only a part.
_PROBE_OPTIMISM = 0.9
# The Huffman tables of a block, which a small piece pays too often.
_BLOCK_BYTES = 256


class Deflate(Codec):
    """Raw deflate, level 9.

    Best for small arrays and for those whose rows repeat.

    Example:
    >>> import numpy as np
    >>> len(Deflate().encode(np.tile(np.arange(50), 40))) < 200
    True
    """

    id: ClassVar[str] = "deflate"

    def size_hint(self, array: np.ndarray) -> int:
        """An optimistic guess from two pieces of a large array."""
        if array.nbytes <= 4 * _WINDOW_BYTES:
            return 0
        flat = dtypes.flat_native(array)
        starts = flat.size // 4, flat.size // 2
        ratio = min(_steady_ratio(flat[start:]) for start in starts)
        return int(_PROBE_OPTIMISM * ratio * array.nbytes)

    def encode(self, array: np.ndarray) -> bytes:
        """Compresses the elements in C order."""
        self.require_support(array)
        if array.size == 0:
            return b""
        return _compress(dtypes.little_endian_bytes(array), level=9)

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Inflates to exactly the declared size; see `Codec.decode`."""
        dtype = dtypes.dtype_from_name(dtype)
        expected = dtypes.element_count(shape, dtype) * dtype.itemsize
        plain = self._inflate(data, expected) if expected or data else b""
        check_bool(plain, dtype, self.id)
        return dtypes.from_little_endian(plain, shape, dtype)

    def _inflate(
        self, data: bytes | bytearray | memoryview, expected: int
    ) -> bytes:
        inflater = zlib.decompressobj(_RAW_STREAM)
        try:
            # One byte more than declared, so that a longer stream shows
            # itself without being expanded.
            plain = inflater.decompress(data, expected + 1)
        except zlib.error as error:
            raise CorruptArtifactError(
                describe(self.id, "a deflate stream", error)
            ) from error
        whole = inflater.eof and not inflater.unused_data
        if len(plain) != expected or not whole or not expected:
            raise CorruptArtifactError(
                describe(
                    self.id,
                    f"one stream of exactly {expected} bytes",
                    f"{len(plain)} bytes, complete={whole}",
                )
            )
        return plain


def _steady_ratio(flat: np.ndarray) -> float:
    count = 2 * _WINDOW_BYTES // flat.itemsize
    piece = dtypes.little_endian_bytes(flat[:count])
    first = _compress(piece[:_WINDOW_BYTES], level=6)
    more = len(_compress(piece, level=6)) - len(first) - _BLOCK_BYTES
    return max(0, more) / _WINDOW_BYTES


def _compress(data: bytes, level: int) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, _RAW_STREAM, 9)
    return deflater.compress(data) + deflater.flush()
