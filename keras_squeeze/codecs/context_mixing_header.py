"""The header of a `context_mixing` stream.

- byte: bits 0-2 the geometry, an index of `kernel_geometry.KINDS`, or 7 for a
  constant array; bits 3-4 the mode of the signs; bit 5: a centre follows;
  bit 6: a trellis follows; bit 7: a hole follows. A constant array sets no
  other bits; its value follows as a signed varint, and nothing else.
- if bit 5, signed varint: the centre, subtracted from all elements;
- if bit 6, byte: the logarithm of the trellis' states; varint: `chains - 1`;
- byte: the number of buckets, 2..120; 128 more where the last one holds only
  the largest level, which then follows as a varint, less that of the bucket
  before and 1;
- byte: the scale class of the mean magnitude;
- if bit 7, varint: `hole - 1`; byte: the shift;
- for every block but the last, varint: its length in bytes;
- with a trellis, for every block but the first: the state of every chain
  where the block starts, a byte each.

The blocks' bytes follow. There are `ceil(channels / most)` blocks where
`most = max(1, 2**20 // (taps * inputs))`; each but the last holds
`ceil(channels / blocks)` channels, as long as there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_squeeze.codecs import context_mixing_model as models
from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs import kernel_geometry
from keras_squeeze.codecs.byte_cursor import (
    ByteCursor,
    signed_varint,
    varint,
)
from keras_squeeze.codecs.context_mixing_model import Model
from keras_squeeze.codecs.kernel_geometry import KINDS, KernelGeometry
from keras_squeeze.codecs.trellis import STATES, Trellis

#: About the most elements a block holds.
BLOCK_SIZE = 1 << 20

_CONSTANT = 7
_CENTRE, _TRELLIS, _HOLE = 1 << 5, 1 << 6, 1 << 7
_LARGEST = (1 << 31) - 1
_MOST_BUCKETS = 120
_LARGEST_SHIFT = 255
_TOP = 1 << 7


@dataclass(frozen=True, slots=True)
class Header:
    """What a stream says before its blocks.

    Args:
        geometry: `KernelGeometry`.
        model: `Model`, which all blocks share.
        centre: Integer, subtracted from all elements.
        trellis: `Trellis` or `None`.
    """

    geometry: KernelGeometry
    model: Model
    centre: int = 0
    trellis: Trellis | None = None


def constant(value: int) -> bytes:
    """The whole stream of an array whose elements are all equal."""
    return bytes([_CONSTANT]) + signed_varint(value)


def block_channels(geometry: KernelGeometry) -> list[range]:
    """The channels of each block."""
    channels, share = geometry.channels, _share(geometry)
    return [
        range(first, min(first + share, channels))
        for first in range(0, channels, share)
    ]


def _share(geometry: KernelGeometry) -> int:
    """How many channels a block has, but the last."""
    most = max(1, BLOCK_SIZE // max(geometry.taps * geometry.inputs, 1))
    return -(-geometry.channels // -(-geometry.channels // most))


def write(
    header: Header, blocks: Sequence[bytes], states: Sequence[bytes]
) -> bytes:
    """Writes a header.

    Args:
        header: `Header`.
        blocks: Sequence of bytes, the blocks that will follow.
        states: Sequence of bytes, the states of the chains where each block
            starts; empty without a trellis.

    Returns:
        The bytes.
    """
    model, trellis = header.model, header.trellis
    flags = KINDS.index(header.geometry.kind) | model.sign_mode << 3
    out = b""
    if header.centre:
        flags |= _CENTRE
        out += signed_varint(header.centre)
    if trellis is not None:
        flags |= _TRELLIS
        out += bytes([trellis.states.bit_length() - 1])
        out += varint(trellis.chains - 1)
    out += _buckets(model) + bytes([model.mean_class])
    if (model.hole, model.shift) != (1, 0):
        flags |= _HOLE
        out += varint(model.hole - 1) + bytes([model.shift])
    out += b"".join(varint(len(block)) for block in blocks[:-1])
    return bytes([flags]) + out + b"".join(states[1:])


def _buckets(model: Model) -> bytes:
    if not model.top:
        return bytes([model.buckets])
    least = tables.bucket_start(model.buckets - 2) + 1
    return bytes([model.buckets | _TOP]) + varint(model.top - least)


def read(cursor: ByteCursor, shape: Sequence[int]) -> Header | int:
    """Reads a header up to the lengths of the blocks.

    Args:
        cursor: `ByteCursor`.
        shape: Sequence of integers, the declared shape.

    Returns:
        `Header`, or the value of a constant array.

    Raises:
        CorruptArtifactError: If no encoder writes such a header.
    """
    flags = cursor.byte()
    if flags == _CONSTANT:
        return cursor.signed_varint(-(1 << 63), (1 << 64) - 1)
    geometry = _read_geometry(cursor, flags & 7, shape)
    centre = 0
    if flags & _CENTRE:
        centre = cursor.signed_varint(-(1 << 63), (1 << 64) - 1)
    trellis = None
    if flags & _TRELLIS:
        trellis = _read_trellis(cursor, geometry)
    model = _read_model(cursor, flags, trellis)
    if flags & _CENTRE and (centre == 0 or trellis is not None):
        raise cursor.fail("a centre only where it moves integers", centre)
    return Header(geometry, model, centre, trellis)


def _read_geometry(
    cursor: ByteCursor, kind: int, shape: Sequence[int]
) -> KernelGeometry:
    if kind >= len(KINDS) or (KINDS[kind][:4] == "conv" and len(shape) < 3):
        raise cursor.fail(f"a geometry for {len(shape)} axes", kind)
    return kernel_geometry.geometry_of(shape, KINDS[kind])


def _read_trellis(cursor: ByteCursor, geometry: KernelGeometry) -> Trellis:
    memory = cursor.byte()
    if 1 << memory not in STATES:
        raise cursor.fail(f"a trellis of {STATES} states", 1 << memory)
    chains = 1 + cursor.varint(geometry.channels + (1 << 16))
    return Trellis(1 << memory, geometry.kind, chains)


def _read_model(
    cursor: ByteCursor, flags: int, trellis: Trellis | None
) -> Model:
    buckets, top = cursor.byte(), 0
    if buckets & _TOP and trellis is None:
        buckets ^= _TOP
        top = _read_top(cursor, buckets)
    mean_class = cursor.byte()
    hole, shift = 1, 0
    if flags & _HOLE:
        hole, shift = 1 + cursor.varint(_LARGEST), cursor.byte()
        if trellis is not None or (hole, shift) == (1, 0):
            raise cursor.fail("a hole only where it is one", (hole, shift))
    if not 2 <= buckets <= _MOST_BUCKETS:
        raise cursor.fail(f"2 to {_MOST_BUCKETS} buckets", buckets)
    if mean_class >= tables.class_count(buckets):
        raise cursor.fail("the class of a mean", mean_class)
    mode = flags >> 3 & 3
    states = 0 if trellis is None else trellis.states
    model = Model(buckets, mean_class, mode, hole, shift, states, top)
    most = models.FILTER_MAGNITUDE if mode == 2 else _LARGEST
    if model.largest > most:
        raise cursor.fail(f"magnitudes up to {most}", (mode, model.largest))
    return model


def _read_top(cursor: ByteCursor, buckets: int) -> int:
    if not 3 <= buckets <= _MOST_BUCKETS:
        raise cursor.fail(f"3 to {_MOST_BUCKETS} buckets", buckets)
    least = tables.bucket_start(buckets - 2) + 1
    return least + cursor.varint(tables.bucket_start(buckets - 1) - least)


def read_blocks(
    cursor: ByteCursor, header: Header
) -> list[tuple[range, memoryview, bytes]]:
    """Reads the channels, the bytes and the first states of every block.

    Args:
        cursor: `ByteCursor`, where `read` left it.
        header: `Header`.

    Returns:
        A list of tuples, one for each block.

    Raises:
        CorruptArtifactError: If the lengths do not fit.
    """
    # Each block but the last tells its length: before any list of them is made.
    count = -(-header.geometry.channels // _share(header.geometry))
    if count > cursor.remaining + 1:
        raise cursor.fail(f"at most {cursor.remaining + 1} blocks", count)
    parts = block_channels(header.geometry)
    lengths = [cursor.varint(cursor.remaining) for _ in parts[1:]]
    states = [b""] * len(parts)
    if header.trellis is not None:
        chains = min(header.trellis.chains, header.geometry.channels)
        states = [bytes(chains)]
        states += [bytes(cursor.take(chains)) for _ in parts[1:]]
        if max(max(part) for part in states) >= header.trellis.states:
            raise cursor.fail("states of the trellis", "others")
    data = [cursor.take(length) for length in lengths]
    data.append(cursor.take_rest())
    return list(zip(parts, data, states, strict=True))
