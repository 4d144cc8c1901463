"""The squeeze stream: header, manifest, payload.

All integers are little-endian.

| offset | size | field |
|---|---|---|
| 0 | 8 | magic, `89 4B 53 51 0D 0A 1A 0A` |
| 8 | 2 | format version, 1 |
| 10 | 2 | flags, 0 |
| 12 | 4 | size of the stored manifest, in bytes |
| 16 | 4 | size of the decoded manifest, in bytes |
| 20 | 8 | size of the payload, in bytes |
| 28 | 32 | SHA-256 of bytes 8 to 27 followed by the stored manifest |
| 60 | ... | manifest: UTF-8 JSON as a raw deflate stream |
| ... | ... | payload: the tensors' parts, one after the other |

The manifest holds the SHA-256 of the payload and a CRC-32 a tensor, so that
one digest in the header vouches for every byte behind it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import zlib

from keras_squeeze.artifact.limits import Limits, check_limit
from keras_squeeze.errors import (
    CorruptArtifactError,
    NotAnArtifactError,
    UnsupportedVersionError,
)

MAGIC = b"\x89KSQ\r\n\x1a\n"
FORMAT_VERSION = 1
HEADER_BYTES = 60
_FIELDS = struct.Struct("<HHIIQ")


@dataclasses.dataclass(frozen=True)
class Header:
    """The fixed-size start of a stream.

    Args:
        manifest_stored_bytes: Integer. Size of the compressed manifest.
        manifest_bytes: Integer. Size of the manifest's JSON.
        payload_bytes: Integer. Size of the payload.
        sha256: Bytes. Digest of the fields and the stored manifest.
    """

    manifest_stored_bytes: int
    manifest_bytes: int
    payload_bytes: int
    sha256: bytes

    @property
    def payload_offset(self) -> int:
        """Where the payload starts in the stream, in bytes."""
        return HEADER_BYTES + self.manifest_stored_bytes


def pack_stream_start(manifest: bytes, payload_bytes: int) -> bytes:
    """Header and compressed manifest, ready to be followed by the payload.

    Args:
        manifest: Bytes. The manifest's JSON.
        payload_bytes: Integer. Size of the payload that follows.

    Returns:
        Bytes.
    """
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    stored = compressor.compress(manifest) + compressor.flush()
    fields = _FIELDS.pack(
        FORMAT_VERSION, 0, len(stored), len(manifest), payload_bytes
    )
    return MAGIC + fields + _digest(fields, stored) + stored


def parse_header(data: bytes, stream_bytes: int, limits: Limits) -> Header:
    """Reads the header and checks its sizes against the stream's.

    Args:
        data: Bytes. The first `HEADER_BYTES` of the stream.
        stream_bytes: Integer. Size of the whole stream.
        limits: A `Limits` object.

    Returns:
        A `Header`.

    Raises:
        NotAnArtifactError: If the magic is missing.
        UnsupportedVersionError: If a newer version wrote it.
        CorruptArtifactError: If the sizes do not add up.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise NotAnArtifactError(
            f"Expected a stream that starts with {MAGIC!r}. "
            f"Received: {bytes(data[: len(MAGIC)])!r}"
        )
    if len(data) < HEADER_BYTES:
        raise CorruptArtifactError(
            f"Expected a header of {HEADER_BYTES} bytes. Received: {len(data)}"
        )
    version, flags, stored, decoded, payload = _FIELDS.unpack_from(data, 8)
    if version != FORMAT_VERSION or flags:
        raise UnsupportedVersionError(
            f"Expected format version {FORMAT_VERSION} without flags; a newer "
            "keras_squeeze may read this file. "
            f"Received: version {version}, flags {flags:#x}"
        )
    for size in (stored, decoded):
        check_limit("a manifest in bytes", size, limits.max_manifest_bytes)
    if HEADER_BYTES + stored + payload != stream_bytes:
        raise CorruptArtifactError(
            f"Expected a stream of {HEADER_BYTES + stored + payload} bytes. "
            f"Received: {stream_bytes} bytes"
        )
    return Header(stored, decoded, payload, bytes(data[28:HEADER_BYTES]))


def unpack_manifest(header: Header, start: bytes) -> bytes:
    """Checks and decompresses the manifest.

    Args:
        header: The `Header` parsed from `start`.
        start: Bytes. The stream up to `header.payload_offset`.

    Returns:
        Bytes. The manifest's JSON.

    Raises:
        CorruptArtifactError: If its digest or its size does not match.
    """
    stored = start[HEADER_BYTES : header.payload_offset]
    if _digest(start[8:28], stored) != header.sha256:
        raise CorruptArtifactError(
            f"Expected a manifest with SHA-256 {header.sha256.hex()}. "
            f"Received: {_digest(start[8:28], stored).hex()}"
        )
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        manifest = decompressor.decompress(stored, header.manifest_bytes + 1)
    except zlib.error as error:
        raise CorruptArtifactError(
            f"Expected a deflated manifest. Received: {error}"
        ) from error
    whole = decompressor.eof and not decompressor.unused_data
    if len(manifest) != header.manifest_bytes or not whole:
        raise CorruptArtifactError(
            f"Expected a manifest of {header.manifest_bytes} bytes. "
            f"Received: {len(manifest)} bytes or more"
        )
    return manifest


def _digest(fields: bytes, stored: bytes) -> bytes:
    return hashlib.sha256(bytes(fields) + bytes(stored)).digest()
