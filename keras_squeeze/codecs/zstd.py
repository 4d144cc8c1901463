"""Zstandard, by the library cramjam.

Layout: one Zstandard frame (RFC 8878) of the bytes.
"""

from __future__ import annotations

from typing import ClassVar

from keras_squeeze.codecs.byte_codec import ByteCodec
from keras_squeeze.codecs.cramjam_calls import compressed, decompressed


class Zstd(ByteCodec):
    """LZ77 with finite state entropy coding: small, and fast to decode.

    Args:
        level: Integer in 1..22. Defaults to 19.
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.

    Example:
    >>> Zstd(level=3, shuffle=True).get_config()
    {'id': 'zstd', 'level': 3, 'shuffle': True}
    """

    id: ClassVar[str] = "zstd"
    library: ClassVar[str | None] = "cramjam"
    levels: ClassVar[tuple[int, int]] = (1, 22)

    def __init__(self, level: int = 19, shuffle: bool = False) -> None:
        super().__init__(level, shuffle)

    def _compress(self, plain: bytes) -> bytes:
        return compressed(self._import().zstd.compress, plain, self.level)

    def _decompress(self, data: bytes, size: int) -> bytes:
        into = self._import().zstd.decompress_into
        return decompressed(into, data, size, self.id)
