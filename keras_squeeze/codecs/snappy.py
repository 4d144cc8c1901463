"""Snappy, by the library cramjam.

Layout: one Snappy stream in the raw format, which begins with the number of
bytes, without a frame.
"""

from __future__ import annotations

from typing import ClassVar

from keras_squeeze.codecs.byte_codec import ByteCodec
from keras_squeeze.codecs.cramjam_calls import compressed, decompressed


class Snappy(ByteCodec):
    """LZ77 without entropy coding: made to be encoded fast.

    Args:
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.
    """

    id: ClassVar[str] = "snappy"
    library: ClassVar[str | None] = "cramjam"

    def __init__(self, shuffle: bool = False) -> None:
        super().__init__(None, shuffle)

    def _compress(self, plain: bytes) -> bytes:
        return compressed(self._import().snappy.compress_raw, plain)

    def _decompress(self, data: bytes, size: int) -> bytes:
        into = self._import().snappy.decompress_raw_into
        return decompressed(into, data, size, self.id)
