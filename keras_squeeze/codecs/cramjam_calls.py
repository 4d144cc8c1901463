"""Calls into the library cramjam, which brings several compressors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_squeeze.codecs.codec import describe
from keras_squeeze.errors import CorruptArtifactError


def compressed(
    compress: Callable[..., Any], plain: bytes, *arguments: int
) -> bytes:
    """The result of a compressor as bytes."""
    return bytes(compress(plain, *arguments))


def decompressed(
    decompress_into: Callable[[bytes, bytearray], int],
    data: bytes,
    size: int,
    codec_id: str,
) -> bytes:
    """Decompresses into a buffer of the declared size.

    Args:
        decompress_into: Callable that fills a buffer, and says how far.
        data: Bytes that nobody vouches for.
        size: Integer. How many bytes they should become.
        codec_id: String. Who is reading, for messages.

    Returns:
        Bytes, at most `size`.

    Raises:
        CorruptArtifactError: If the library refuses the bytes, or they would
            become more than that.
    """
    import cramjam

    buffer = bytearray(size)
    try:
        filled = decompress_into(data, buffer)
    except cramjam.DecompressionError as error:
        expected = f"a stream of exactly {size} bytes"
        raise CorruptArtifactError(
            describe(codec_id, expected, error)
        ) from error
    return bytes(buffer[:filled])
