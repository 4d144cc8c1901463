"""Bzip2, by Python's own library.

Layout: one bzip2 stream of the bytes.
"""

from __future__ import annotations

import bz2
from typing import ClassVar

from keras_squeeze.codecs.byte_codec import ByteCodec


class Bzip2(ByteCodec):
    """Burrows-Wheeler transform with Huffman codes.

    Args:
        level: Integer in 1..9, the block's size in 100 kB. Defaults to 9.
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.

    Example:
    >>> import numpy as np
    >>> len(Bzip2().encode(np.zeros(100_000))) < 100
    True
    """

    id: ClassVar[str] = "bzip2"
    levels: ClassVar[tuple[int, int]] = (1, 9)

    def _compress(self, plain: bytes) -> bytes:
        return bz2.compress(plain, self.level)

    def _decompress(self, data: bytes, size: int) -> bytes:
        inflater = bz2.BZ2Decompressor()
        try:
            # One byte more, so that a longer stream shows itself.
            plain = inflater.decompress(data, size + 1)
        except (OSError, ValueError) as error:
            raise self._damaged("a bzip2 stream", error) from error
        if not inflater.eof or inflater.unused_data:
            raise self._damaged("one whole bzip2 stream", "an unfinished one")
        return plain
