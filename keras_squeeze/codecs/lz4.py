"""LZ4, by the library cramjam.

Layout: one LZ4 frame of the bytes.
"""

from __future__ import annotations

from typing import ClassVar

from keras_squeeze.codecs.byte_codec import ByteCodec
from keras_squeeze.codecs.cramjam_calls import compressed, decompressed


class Lz4(ByteCodec):
    """LZ77 without entropy coding: made to be decoded fast.

    Args:
        level: Integer in 0..12; up to 2 the fast compressor, then one that
            tries harder. Defaults to 12.
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.
    """

    id: ClassVar[str] = "lz4"
    library: ClassVar[str | None] = "cramjam"
    levels: ClassVar[tuple[int, int]] = (0, 12)

    def _compress(self, plain: bytes) -> bytes:
        return compressed(self._import().lz4.compress, plain, self.level)

    def _decompress(self, data: bytes, size: int) -> bytes:
        into = self._import().lz4.decompress_into
        return decompressed(into, data, size, self.id)
