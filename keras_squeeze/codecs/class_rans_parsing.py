"""Reading and checking a stream of `class_rans` up to its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_squeeze.codecs import (
    bits,
    class_rans_lanes,
    class_rans_table,
    dtypes,
)
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.class_rans_header import (
    CONSTANT,
    Header,
    read_header,
)
from keras_squeeze.codecs.class_rans_lanes import LaneStream

#: The id of the codec, for messages.
CODEC_ID = "class_rans"

_STATE_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class ParsedStream:
    """A stream that has been checked.

    Args:
        shape: Tuple of integers.
        dtype: The `numpy.dtype`.
        origin: Integer. To be added to all that lanes decode.
        stream: Optional `LaneStream`; `None` if all is `origin`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    origin: int
    stream: LaneStream | None = None


def parse_stream(
    data: bytes | bytearray | memoryview, shape: Sequence[int], dtype: Any
) -> ParsedStream:
    """Reads and checks all that comes before the words.

    Args:
        data: Bytes nobody vouches for.
        shape: Sequence of integers, the declared shape.
        dtype: The declared dtype.

    Returns:
        `ParsedStream`.

    Raises:
        CorruptArtifactError: If the bytes are damaged.
    """
    dtype = dtypes.dtype_from_name(dtype)
    count = dtypes.element_count(shape, dtype)
    shape = tuple(shape)
    cursor = ByteCursor(data, CODEC_ID)
    if not dtypes.is_integer(dtype):
        raise cursor.fail("an integer dtype", dtype.name)
    if count == 0:
        cursor.finish()
        return ParsedStream(shape, dtype, 0)
    if cursor.remaining and cursor.data[0] == CONSTANT:
        cursor.byte()
        value = cursor.signed_varint(*dtypes.integer_range(dtype))
        cursor.finish()
        return ParsedStream(shape, dtype, value)
    header = read_header(cursor, shape)
    _check_values(cursor, header, dtype)
    origin = header.tokens.low
    if header.contexts.neighbour or header.contexts.states:
        origin = 0
    stream = _read_stream(cursor, header, header.tokens.low - origin)
    return ParsedStream(shape, dtype, origin, stream)


def _check_values(
    cursor: ByteCursor, header: Header, dtype: np.dtype[Any]
) -> None:
    """What wraps around is harmless, but no boolean may be 2."""
    low, high = dtypes.integer_range(dtype)
    tokens = header.tokens
    last = tokens.low + tokens.plain - 1
    if dtype.kind != "b":
        last = tokens.low
    elif tokens.shift or header.escape or header.contexts.states:
        raise cursor.fail("tokens for booleans", "others")
    if last > high or (tokens.low < low and not header.contexts.states):
        raise cursor.fail(f"values of {dtype.name}", (tokens.low, last))


def _read_stream(cursor: ByteCursor, header: Header, low: int) -> LaneStream:
    layout, contexts = header.layout, header.contexts
    blocks = -(-layout.rows // header.block_rows)
    ends = np.zeros(blocks, np.int64)
    for block in range(blocks - 1):
        # A step of a lane takes one word at most, a row three steps.
        most = 3 * layout.lanes * header.block_rows
        ends[block] = cursor.varint(most)
    ends = np.cumsum(ends)
    lanes = layout.widths(header.block_rows)
    states = _read_states(cursor, lanes, layout.lanes)
    machines = _read_machines(cursor, lanes, layout.lanes, contexts.states)
    if cursor.remaining % 2:
        raise cursor.fail("whole 16-bit words", cursor.remaining)
    words = np.frombuffer(cursor.take_rest(), "<u2")
    if ends[-1] > words.size:
        raise cursor.fail(f"{ends[-1]} words", words.size)
    ends[-1] = words.size
    escape = header.escape
    frequencies = [header.frequencies]
    if header.escape_frequencies is not None:
        frequencies.append(header.escape_frequencies)
    tables = [class_rans_table.expand(f) for f in frequencies]
    return LaneStream(
        layout,
        contexts,
        header.block_rows,
        low,
        header.tokens.shift,
        class_rans_lanes.NO_ESCAPE if escape is None else header.tokens.plain,
        escape.low - header.tokens.low + low if escape else 0,
        escape.shift if escape else 0,
        np.concatenate(tables),
        states,
        machines,
        # Kernels want words at even addresses.
        np.require(words, np.uint16, "A"),
        ends,
    )


def _read_states(
    cursor: ByteCursor, lanes: np.ndarray, most: int
) -> np.ndarray:
    out = np.full((lanes.size, most), class_rans_lanes.STATE_LOW, np.uint32)
    packed = cursor.take(_STATE_BYTES * int(lanes.sum()))
    there = np.arange(most) < lanes[:, None]
    out[there] = np.frombuffer(packed, "<u4")
    if int(out.min()) < class_rans_lanes.STATE_LOW:
        raise cursor.fail("states of at least 65536", out.min())
    return out


def _read_machines(
    cursor: ByteCursor, lanes: np.ndarray, most: int, states: int
) -> np.ndarray:
    out = np.zeros((lanes.size, most), np.uint8)
    if states and lanes.size > 1:
        width = states.bit_length() - 1
        count = int(lanes[1:].sum())
        packed = cursor.take(bits.packed_size(count, width))
        if not bits.padding_is_zero(packed, count * width):
            raise cursor.fail("zero bits of filling", packed[-1])
        there = np.arange(most) < lanes[1:, None]
        out[1:][there] = bits.unpack_fixed(packed, count, width)
    return out
