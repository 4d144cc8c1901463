"""Brotli, by the library cramjam.

Layout: a varint, the number of bytes that follow; one Brotli stream
(RFC 7932) of the bytes.
"""

from __future__ import annotations

from typing import ClassVar

from keras_squeeze.codecs.byte_codec import ByteCodec
from keras_squeeze.codecs.byte_cursor import ByteCursor, varint
from keras_squeeze.codecs.cramjam_calls import compressed, decompressed


class Brotli(ByteCodec):
    """LZ77 with Huffman codes that depend on the context.

    Args:
        level: Integer in 0..11. Defaults to 11, which is slow.
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.
    """

    id: ClassVar[str] = "brotli"
    library: ClassVar[str | None] = "cramjam"
    levels: ClassVar[tuple[int, int]] = (0, 11)

    def _compress(self, plain: bytes) -> bytes:
        data = compressed(self._import().brotli.compress, plain, self.level)
        return varint(len(data)) + data

    def _decompress(self, data: bytes, size: int) -> bytes:
        cursor = ByteCursor(data, self.id)
        # The library ignores what follows a stream: we must not.
        stream = bytes(cursor.take(cursor.varint(cursor.remaining)))
        cursor.finish()
        into = self._import().brotli.decompress_into
        return decompressed(into, stream, size, self.id)
