"""HDF5's superblock and object headers, as far as our writer uses them.

Superblock of version 2, object headers of version 2 without times, both with
their checksums verified. What else HDF5 can hold is refused. Integers are
little-endian; addresses count from the start of the file.

References:
- The HDF Group, HDF5 File Format Specification, version 3.0, sections II.A
  and IV.A.
"""

from __future__ import annotations

import dataclasses
import struct

from keras_squeeze.artifact.lookup3 import lookup3
from keras_squeeze.artifact.sources import Source
from keras_squeeze.errors import CorruptArtifactError, UnsafeArtifactError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES = 48
UNDEFINED = 0xFFFFFFFFFFFFFFFF

NIL = 0x00
CONTINUATION = 0x10

# A whole skeleton is smaller than this.
_MAX_CHUNK_BYTES = 4096
_MAX_CHUNKS = 8
_SUPERBLOCK = struct.Struct("<8sBBBBQQQQI")
_CONTINUATION = struct.Struct("<QQ")
_SIZE_FIELDS = (1, 2, 4, 8)
_CHECKSUM_BYTES = 4
_MESSAGE_START_BYTES = 4


@dataclasses.dataclass(frozen=True, order=True)
class Message:
    """One message of an object header.

    Args:
        kind: Integer. The type, as the specification numbers it.
        body: Bytes.
        flags: Integer. Bit 0: the body is constant; bit 2: never shared.
            Defaults to 0.
    """

    kind: int
    body: bytes
    flags: int = 0


@dataclasses.dataclass(frozen=True, order=True)
class Region:
    """Bytes of the file that are accounted for, from `start` to `stop`."""

    start: int
    stop: int


def read_superblock(source: Source) -> int:
    """Checks the superblock.

    Args:
        source: A `Source` of the whole file.

    Returns:
        Integer. The address of the root group's object header.

    Raises:
        CorruptArtifactError: If it is damaged or the file is cut or longer.
        UnsafeArtifactError: If it is not of the one kind that is read.
    """
    data = source.read(0, SUPERBLOCK_BYTES)
    (signature, version, offsets, lengths, flags, *addresses, checksum) = (
        _SUPERBLOCK.unpack(data)
    )
    if (signature, version) != (SIGNATURE, 2):
        raise UnsafeArtifactError(
            f"Expected an HDF5 superblock of version 2 in {source.name!r}. "
            f"Received: {signature!r}, version {version}"
        )
    _check_sum(source, 0, data, checksum)
    base, extension, end, root = addresses
    found = (offsets, lengths, flags, base, extension)
    if found != (8, 8, 0, 0, UNDEFINED):
        raise UnsafeArtifactError(
            f"Expected a plain HDF5 superblock in {source.name!r}: sizes of 8 "
            f"bytes, no flags, no user block, no extension. Received: {found}"
        )
    if end != source.size:
        raise CorruptArtifactError(
            f"Expected {source.name!r} to have {end} bytes, as it says. "
            f"Received: {source.size} bytes"
        )
    return int(root)


def read_object(
    source: Source, address: int
) -> tuple[list[Message], list[Region]]:
    """Reads the header of one object, all its chunks.

    Args:
        source: A `Source` of the whole file.
        address: Integer. Where the header starts.

    Returns:
        The messages but those that only continue or fill with zeros, and the
        regions of the file that the header takes.

    Raises:
        CorruptArtifactError: If it is damaged.
        UnsafeArtifactError: If it is of another kind.
    """
    region, start = _first_chunk(source, address)
    messages, regions, waiting = [], [region], []
    data = _checked_chunk(source, region)[start:]
    while True:
        for message in _messages(source, data):
            if message.kind == CONTINUATION:
                waiting.append(_continued(source, message))
            elif message != Message(NIL, bytes(len(message.body))):
                messages.append(message)
        if not waiting:
            return messages, regions
        regions.append(waiting.pop())
        if len(regions) > _MAX_CHUNKS:
            raise _unsafe(source, address, f"more than {_MAX_CHUNKS} chunks")
        data = _checked_chunk(source, regions[-1])
        if data[:4] != b"OCHK":
            raise _unsafe(source, regions[-1].start, repr(data[:4]))
        data = data[4:]


def _first_chunk(source: Source, address: int) -> tuple[Region, int]:
    """The header's first chunk and where in it the messages start."""
    prefix = source.read(address, min(address + 14, source.size))
    flags = prefix[5] if len(prefix) > 5 else UNDEFINED
    if prefix[:5] != b"OHDR\x02" or flags not in range(4):
        raise _unsafe(source, address, f"a header {prefix.hex()}")
    width = _SIZE_FIELDS[flags]
    size = int.from_bytes(prefix[6 : 6 + width], "little")
    start = 6 + width
    _check_chunk_size(source, address, size)
    return Region(address, address + start + size + _CHECKSUM_BYTES), start


def _continued(source: Source, message: Message) -> Region:
    if len(message.body) != _CONTINUATION.size or message.flags:
        raise _unsafe(source, 0, f"a continuation {message.body.hex()}")
    start, size = _CONTINUATION.unpack(message.body)
    _check_chunk_size(source, start, size)
    return Region(start, start + size)


def _check_chunk_size(source: Source, address: int, size: int) -> None:
    if not 8 <= size <= _MAX_CHUNK_BYTES:
        raise _unsafe(source, address, f"a chunk of {size} bytes")


def _checked_chunk(source: Source, region: Region) -> bytes:
    """A chunk without its checksum, which is verified."""
    data = source.read(region.start, region.stop)
    checksum = int.from_bytes(data[-_CHECKSUM_BYTES:], "little")
    _check_sum(source, region.start, data, checksum)
    return data[:-_CHECKSUM_BYTES]


def _messages(source: Source, data: bytes) -> list[Message]:
    messages, place = [], 0
    while len(data) - place >= _MESSAGE_START_BYTES:
        kind, size, flags = struct.unpack_from("<BHB", data, place)
        place += _MESSAGE_START_BYTES
        body = data[place : place + size]
        place += size
        if len(body) != size:
            raise _unsafe(source, 0, f"type {kind:#x}, {size} bytes")
        messages.append(Message(kind, body, flags))
    if any(data[place:]):
        raise _unsafe(source, 0, f"the end {data[place:].hex()}")
    return messages


def _check_sum(source: Source, address: int, data: bytes, sum_: int) -> None:
    received = lookup3(data[:-_CHECKSUM_BYTES])
    if received != sum_:
        raise CorruptArtifactError(
            f"Expected HDF5 metadata with checksum {sum_:08x} at "
            f"{address} of {source.name!r}. Received: {received:08x}"
        )


def _unsafe(source: Source, address: int, received: str) -> Exception:
    return UnsafeArtifactError(
        f"Expected object headers as keras_squeeze writes them at {address} "
        f"of {source.name!r}. Received: {received}"
    )
