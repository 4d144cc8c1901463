"""LZMA, by Python's own library.

Layout: one .xz stream without a check of its own (the caller has one).
"""

from __future__ import annotations

import lzma
from typing import ClassVar

from keras_squeeze.codecs.byte_codec import ByteCodec

# The greatest preset asks for 65 MiB to decompress.
_MEMORY_BYTES = 80 << 20
_LEAST_WINDOW, _MOST_WINDOW = 1 << 12, 1 << 26


class Xz(ByteCodec):
    """LZ77 with an adaptive range coder: small, and slow to decode.

    Args:
        level: Integer in 0..9. Defaults to 9.
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.

    Example:
    >>> import numpy as np
    >>> len(Xz().encode(np.zeros(100_000))) < 300
    True
    """

    id: ClassVar[str] = "xz"
    levels: ClassVar[tuple[int, int]] = (0, 9)

    def _compress(self, plain: bytes) -> bytes:
        # A dictionary no larger than the data: presets reserve up to 674 MiB.
        window = max(_LEAST_WINDOW, 1 << (len(plain) - 1).bit_length())
        chain = {
            "id": lzma.FILTER_LZMA2,
            "preset": self.level,
            "dict_size": min(window, _MOST_WINDOW),
        }
        return lzma.compress(
            plain, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=[chain]
        )

    def _decompress(self, data: bytes, size: int) -> bytes:
        inflater = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY_BYTES)
        try:
            # One byte more, so that a longer stream shows itself.
            plain = inflater.decompress(data, size + 1)
        except lzma.LZMAError as error:
            raise self._damaged("an xz stream", error) from error
        if not inflater.eof or inflater.unused_data:
            raise self._damaged("one whole xz stream", "an unfinished one")
        return plain
