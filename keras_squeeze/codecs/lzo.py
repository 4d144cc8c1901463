"""LZO, by the library lzallright.

Layout: for each 64 KiB of the bytes (the last may be fewer) a varint, the
number of bytes that follow, and these as one LZO1X stream.
"""

from __future__ import annotations

from typing import ClassVar

from keras_squeeze.codecs.byte_codec import ByteCodec
from keras_squeeze.codecs.byte_cursor import ByteCursor, varint

# The library expands a stream however long it becomes, at most 255 times:
# blocks keep that small. LZO refers back 48 KiB at most.
_BLOCK_BYTES = 1 << 16


class Lzo(ByteCodec):
    """LZ77 without entropy coding, in many embedded systems.

    Args:
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.
    """

    id: ClassVar[str] = "lzo"
    library: ClassVar[str | None] = "lzallright"

    def __init__(self, shuffle: bool = False) -> None:
        super().__init__(None, shuffle)

    def _compress(self, plain: bytes) -> bytes:
        compressor = self._import().LZOCompressor()
        out = bytearray()
        for start in range(0, len(plain), _BLOCK_BYTES):
            block = bytes(
                compressor.compress(plain[start : start + _BLOCK_BYTES])
            )
            out += varint(len(block)) + block
        return bytes(out)

    def _decompress(self, data: bytes, size: int) -> bytes:
        library = self._import()
        cursor = ByteCursor(data, self.id)
        out = bytearray()
        for start in range(0, size, _BLOCK_BYTES):
            length = min(_BLOCK_BYTES, size - start)
            block = bytes(cursor.take(cursor.varint(_worst(length))))
            try:
                plain = library.LZOCompressor.decompress(block, length)
            except library.LZOError as error:
                raise self._damaged("an LZO stream", error.args[:1]) from error
            if len(plain) != length:
                raise self._damaged(f"{length} bytes in a block", len(plain))
            out += plain
        cursor.finish()
        return bytes(out)


def _worst(length: int) -> int:
    """The most bytes that LZO makes of `length` bytes."""
    return length + length // 16 + 67
