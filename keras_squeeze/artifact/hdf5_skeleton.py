"""A strict reader of the HDF5 skeleton that `container` writes.

It reads that one layout and nothing else, in Python, so that no byte of a
file one does not trust reaches the HDF5 library. Everything but four values
is compared with what the writer writes: the versions of Keras and of its
backend, the place and the size of the stream. All checksums are verified, and
every byte of the file belongs to the superblock, to one object header or to
the stream.

References:
- The HDF Group, HDF5 File Format Specification, version 3.0, section IV.A.2.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence

from keras_squeeze.artifact.hdf5_objects import (
    SIGNATURE,
    SUPERBLOCK_BYTES,
    UNDEFINED,
    Message,
    Region,
    read_object,
    read_superblock,
)
from keras_squeeze.artifact.skeleton_layout import (
    BACKEND,
    DATASET,
    GROUP,
    KERAS_VERSION,
    LAYER_NAMES,
    MAX_VERSION_BYTES,
    MODEL_CLASS,
    MODEL_CONFIG,
    TOP,
    WEIGHT_NAMES,
    model_config,
)
from keras_squeeze.artifact.sources import Source
from keras_squeeze.errors import NotAnArtifactError, UnsafeArtifactError

_DATASPACE, _LINK_INFO, _DATATYPE, _FILL_VALUE = 0x01, 0x02, 0x03, 0x05
_LINK, _LAYOUT, _GROUP_INFO = 0x06, 0x08, 0x0A
_ATTRIBUTE, _ATTRIBUTE_INFO = 0x0C, 0x15
_NAMES = {
    _DATASPACE: "dataspace",
    _DATATYPE: "datatype",
    _FILL_VALUE: "fill value",
    0x07: "external files",
    _LINK: "link",
    _LAYOUT: "storage layout",
    0x0B: "filter pipeline",
    _ATTRIBUTE: "attribute",
}

_UNDEFINED = struct.pack("<Q", UNDEFINED)
# Version 0, no creation order; links and attributes lie in the header itself.
_COMPACT = b"\0\0" + 2 * _UNDEFINED
_OF_EVERY_GROUP = (
    Message(_LINK_INFO, _COMPACT),
    Message(_GROUP_INFO, b"\0\0", 1),
    Message(_ATTRIBUTE_INFO, _COMPACT, 4),
)
_STRING_TYPE_BYTES = 8
_SCALAR = bytes.fromhex("02000000")
_UINT8 = bytes.fromhex("10000000 01000000 00000800")
# Version 3, allocated late, written if set, and not set.
_NO_FILL_VALUE = bytes.fromhex("030a")
_CONTIGUOUS = bytes.fromhex("0301")
# A hard link of version 1 whose name has a size of one byte.
_HARD_LINK = bytes.fromhex("0100")
# Enough to see whether a file that is refused was meant to be ours.
_START_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """What the skeleton says.

    Args:
        stream_offset: Integer. Where the stream starts in the file.
        stream_bytes: Integer. Size of the stream.
        keras_version: String. Which Keras wrote the file.
        backend: String. The backend that it ran on.
    """

    stream_offset: int
    stream_bytes: int
    keras_version: str
    backend: str


def parse_skeleton(source: Source) -> Skeleton:
    """Checks that a file is exactly our skeleton around a stream.

    Args:
        source: A `Source` of the whole file.

    Returns:
        A `Skeleton`.

    Raises:
        NotAnArtifactError: If it is another kind of file.
        UnsafeArtifactError: If it holds more, less or else.
        CorruptArtifactError: If a checksum or a size does not match.
    """
    start = source.read(0, min(_START_BYTES, source.size))
    if not start.startswith(SIGNATURE):
        raise NotAnArtifactError(
            f"Expected an HDF5 file at {source.name!r}. Received: a file that "
            f"starts with {start[: len(SIGNATURE)]!r}"
        )
    try:
        return _parse(source)
    except UnsafeArtifactError as error:
        if MODEL_CLASS.encode() in start:
            raise
        raise NotAnArtifactError(
            f"Expected a keras_squeeze artifact at {source.name!r}; plain "
            "Keras files are opened by keras.models.load_model. Received: "
            "another HDF5 file"
        ) from error


def _parse(source: Source) -> Skeleton:
    address = read_superblock(source)
    regions = [Region(0, SUPERBLOCK_BYTES)]
    groups = []
    for child in (GROUP, TOP, DATASET):
        messages, taken = read_object(source, address)
        address = _target(source, messages, child)
        regions += taken
        groups.append(messages)
    dataset, taken = read_object(source, address)
    offset, size = _storage(source, dataset)
    _check_tiled(source, [*regions, *taken, Region(offset, offset + size)])
    root, group, top = groups
    versions = [
        _short_string(source, root, name) for name in (KERAS_VERSION, BACKEND)
    ]
    version_attributes = [
        _string_attribute(name, value)
        for name, value in zip((KERAS_VERSION, BACKEND), versions, strict=True)
    ]
    config = _string_attribute(MODEL_CONFIG, model_config(size))
    _check_group(source, root, GROUP, [config, *version_attributes])
    layers = _string_array_attribute(LAYER_NAMES, [], 1)
    _check_group(source, group, TOP, [layers, *version_attributes])
    weights = _string_array_attribute(WEIGHT_NAMES, [DATASET], len(DATASET))
    _check_group(source, top, DATASET, [weights])
    keras_version, backend = (v.decode(errors="replace") for v in versions)
    return Skeleton(offset, size, keras_version, backend)


def _target(source: Source, messages: Sequence[Message], name: str) -> int:
    """The address that the only link of a group leads to."""
    links = [message for message in messages if message.kind == _LINK]
    start = _HARD_LINK + bytes([len(name)]) + name.encode()
    expected = [Message(_LINK, start + m.body[-8:]) for m in links[:1]]
    if links != expected or len(links) != 1 or len(links[0].body) < 8:
        raise _unsafe(source, f"one hard link, {name!r}", messages)
    return int.from_bytes(links[0].body[-8:], "little")


def _check_group(
    source: Source,
    messages: Sequence[Message],
    child: str,
    attributes: Sequence[Message],
) -> None:
    # The link was looked at when it was followed.
    found = [message for message in messages if message.kind != _LINK]
    expected = [*_OF_EVERY_GROUP, *attributes]
    if sorted(found) != sorted(expected):
        raise _unsafe(source, f"the group above {child!r}", messages)


def _storage(source: Source, messages: Sequence[Message]) -> tuple[int, int]:
    """Where the dataset lies, if it is what the writer writes."""
    layouts = [m.body for m in messages if m.kind == _LAYOUT]
    if len(layouts) != 1 or len(layouts[0]) != 18:
        raise _unsafe(source, "a contiguous dataset", messages)
    offset, size = struct.unpack("<QQ", layouts[0][2:])
    expected = [
        Message(_DATASPACE, _dataspace(size)),
        Message(_DATATYPE, _UINT8, 1),
        Message(_FILL_VALUE, _NO_FILL_VALUE, 1),
        Message(_LAYOUT, _CONTIGUOUS + struct.pack("<QQ", offset, size)),
    ]
    if sorted(messages) != sorted(expected):
        raise _unsafe(source, "one plain dataset of bytes", messages)
    return offset, size


def _dataspace(size: int) -> bytes:
    # Version 2, rank 1, with the maximal size, a simple one.
    return bytes.fromhex("02010101") + 2 * struct.pack("<Q", size)


def _string_attribute(name: str, value: bytes) -> Message:
    return _attribute(name, len(value), _SCALAR, value)


def _string_array_attribute(
    name: str, values: Sequence[str], width: int
) -> Message:
    data = "".join(values).encode()
    return _attribute(name, width, _dataspace(len(values)), data)


def _attribute(name: str, width: int, space: bytes, data: bytes) -> Message:
    start = _attribute_start(name, space)
    return Message(_ATTRIBUTE, start + _string_type(width) + space + data)


def _attribute_start(name: str, space: bytes) -> bytes:
    """Version 3, nothing shared, the sizes, an ASCII name with its NUL."""
    sizes = struct.pack("<HHH", len(name) + 1, _STRING_TYPE_BYTES, len(space))
    return b"\3\0" + sizes + b"\0" + name.encode() + b"\0"


def _string_type(width: int) -> bytes:
    """Strings of a fixed size in ASCII, padded with NUL."""
    return bytes.fromhex("13010000") + struct.pack("<I", width)


def _short_string(
    source: Source, messages: Sequence[Message], name: str
) -> bytes:
    """The value of an attribute; that it is a string is checked later."""
    start = _attribute_start(name, _SCALAR)
    place = len(start) + _STRING_TYPE_BYTES + len(_SCALAR)
    for message in messages:
        size = len(message.body) - place
        if message.kind == _ATTRIBUTE and message.body.startswith(start):
            if 0 < size <= MAX_VERSION_BYTES:
                return message.body[place:]
            raise _unsafe(source, f"{name!r} to be a short string", messages)
    raise _unsafe(source, f"a string {name!r}", messages)


def _check_tiled(source: Source, regions: Sequence[Region]) -> None:
    place = 0
    for region in sorted(regions):
        if region.start != place or region.stop <= place:
            raise UnsafeArtifactError(
                f"Expected every byte of {source.name!r} to belong to one "
                f"thing only. Received: {region} after {place}"
            )
        place = region.stop
    if place != source.size:
        raise UnsafeArtifactError(
            f"Expected {source.name!r} to end with what it describes, at "
            f"{place}. Received: {source.size} bytes"
        )


def _unsafe(
    source: Source, expected: str, messages: Sequence[Message]
) -> UnsafeArtifactError:
    found = [
        _NAMES.get(message.kind, f"message {message.kind:#x}")
        for message in messages
        if message not in _OF_EVERY_GROUP
    ]
    return UnsafeArtifactError(
        f"Expected {expected} in {source.name!r}, as keras_squeeze writes it, "
        f"and nothing else. Received: {', '.join(found) or 'nothing'}"
    )
