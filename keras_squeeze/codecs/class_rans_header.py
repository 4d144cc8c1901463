"""What precedes the words in a stream of `class_rans`: writing and reading.

All that chooses tables, in this order:

- byte, the form: bits 0..2 the view (an index into `VIEWS`), bit 3 scale
  classes, bit 4 neighbour classes, bit 5 a trellis, bit 6 an escape; bit 7 is
  the constant's, see `class_rans`;
- byte: bits 0..2 the logarithm of the lanes (at most 5), bits 3..6 the shift
  (at most 8), bit 7 zero;
- signed varint: the least value of token 0; byte: the number of tokens - 1;
- if more than 2048 rows, byte: the logarithm of the rows of a block, 10..16;
- with a trellis, byte: the logarithm of its states, 2..8;
- with an escape, signed varint: the least value that is escaped; varint: how
  many values from there on the escape table covers, minus 1;
- with neighbour classes, varint: distance - 1; varint: threshold - 1;
- then bits: with scale classes, the classes - 1 (4 bits), the merge (2 bits),
  which lists follow (3 bits: channels, inputs, taps) and these lists; the
  tables, the escape table last; zeros up to a whole byte.

A list of exponents is a Rice code: its parameter `k` (3 bits), the middle plus
128 (8 bits), for each exponent minus the middle, zigzag mapped, the bits above
the lowest `k` in unary, then for each the lowest `k` bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import (
    bits,
    class_rans_native,
    class_rans_table,
    trellis,
)
from keras_squeeze.codecs.byte_cursor import (
    ByteCursor,
    signed_varint,
    varint,
)
from keras_squeeze.codecs.class_rans_alphabet import (
    MAX_SPAN,
    Tokens,
    covering,
)
from keras_squeeze.codecs.class_rans_bits import (
    BitReader,
    BitWriter,
    unzigzag,
    zigzag,
)
from keras_squeeze.codecs.class_rans_contexts import (
    MAX_MAGNITUDE,
    MAX_TABLES,
    NO_CLASSES,
    Contexts,
    Neighbour,
    ScaleClasses,
)
from keras_squeeze.codecs.class_rans_layout import (
    VIEWS,
    Layout,
    layout_of,
)
from keras_squeeze.codecs.class_rans_native_header import (
    native_read_exponents,
    native_read_tables,
)

USUAL_BLOCK_ROWS = 2048
_CLASSES, _NEIGHBOUR, _TRELLIS, _ESCAPE = 8, 16, 32, 64
CONSTANT = 128
_BLOCK_LOGARITHMS = range(10, 17)
_EXPONENT_OFFSET = 128
_MOST_EXPONENT = 511
_WIDTHS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """All that a decoder knows before the first word.

    Args:
        layout: `Layout`.
        contexts: `Contexts`.
        block_rows: Integer. The rows of every block but the last.
        tokens: `Tokens`.
        escape: Optional `Tokens` of the escape table.
        frequencies: int64 array of shape `(tables, tokens)`.
        escape_frequencies: Optional int64 array of shape `(1, tokens)`.
    """

    layout: Layout
    contexts: Contexts
    block_rows: int
    tokens: Tokens
    escape: Tokens | None
    frequencies: np.ndarray
    escape_frequencies: np.ndarray | None


def write_header(
    layout: Layout,
    contexts: Contexts,
    block_rows: int,
    tokens: Tokens,
    escape: tuple[int, int] | None,
    tables: Sequence[class_rans_table.Table],
) -> bytes:
    """The header as bytes.

    Args:
        layout: `Layout`.
        contexts: `Contexts`.
        block_rows: Integer.
        tokens: `Tokens`.
        escape: Optional pair of the least escaped value and the span.
        tables: Sequence of `Table`, that of the escape last.
    """
    form = VIEWS.index(layout.view)
    form |= _CLASSES * (contexts.scale is not NO_CLASSES)
    form |= _NEIGHBOUR * (contexts.neighbour is not None)
    form |= _TRELLIS * bool(contexts.states) | _ESCAPE * (escape is not None)
    lanes = layout.lanes.bit_length() - 1
    count = tokens.plain + (escape is not None)
    parts = [
        bytes([form, lanes | tokens.shift << 3]),
        signed_varint(tokens.low) + bytes([count - 1]),
    ]
    if layout.rows > USUAL_BLOCK_ROWS:
        parts.append(bytes([block_rows.bit_length() - 1]))
    if contexts.states:
        parts.append(bytes([contexts.states.bit_length() - 1]))
    if escape is not None:
        parts.append(signed_varint(escape[0]) + varint(escape[1] - 1))
    if contexts.neighbour is not None:
        near = contexts.neighbour
        parts.append(varint(near.distance - 1) + varint(near.threshold - 1))
    writer = BitWriter()
    if contexts.scale is not NO_CLASSES:
        _write_classes(writer, contexts.scale)
    for table in tables:
        table.write(writer)
    return b"".join([*parts, writer.to_bytes()])


def _write_classes(writer: BitWriter, scale: ScaleClasses) -> None:
    lists = (scale.channels, scale.inputs, scale.taps)
    writer.field(scale.classes - 1, 4)
    writer.field(scale.merge, 2)
    for exponents in lists:
        writer.field(exponents is not None, 1)
    for exponents in lists:
        if exponents is not None:
            _write_exponents(writer, exponents)


def rice_parameter(exponents: np.ndarray) -> tuple[int, int, np.ndarray]:
    """How a list of exponents is best written.

    Args:
        exponents: int64 array.

    Returns:
        The parameter, the bits of the whole list, and the zigzag mapped
        differences to the middle.
    """
    mapped = zigzag(exponents - _middle(exponents))
    widths = np.arange(_WIDTHS)[:, None]
    sizes = (mapped >> widths).sum(1) + (widths[:, 0] + 1) * mapped.size + 11
    width = int(sizes.argmin())
    return width, int(sizes[width]), mapped


def _middle(exponents: np.ndarray) -> int:
    half = exponents.size // 2
    middle = int(np.partition(exponents, half)[half])
    return min(max(middle, -128), 127)


def _write_exponents(writer: BitWriter, exponents: np.ndarray) -> None:
    width, _, mapped = rice_parameter(exponents)
    writer.field(width, 3)
    writer.field(_middle(exponents) + _EXPONENT_OFFSET, 8)
    writer.array(bits.unary_bits(mapped >> width))
    rest = mapped & ((1 << width) - 1)
    writer.array(bits.variable_bits(rest, np.full(mapped.size, width)))


def read_header(cursor: ByteCursor, shape: Sequence[int]) -> Header:
    """Reads what `write_header` wrote.

    Args:
        cursor: ByteCursor at the first byte, not of a constant.
        shape: Sequence of integers, the declared shape, without a zero.

    Returns:
        `Header`, checked.

    Raises:
        CorruptArtifactError: If the bytes are no header of such an array.
    """
    form, second = cursor.byte(), cursor.byte()
    if second >> 7 or form >> 7:
        raise cursor.fail("a form that is known", (form, second))
    layout = _read_layout(cursor, shape, form & 7, second & 7)
    shift = second >> 3
    low = cursor.signed_varint(-(1 << 63), (1 << 64) - 1)
    count = 1 + cursor.byte()
    has_escape = bool(form & _ESCAPE)
    tokens = Tokens(low, shift, count - has_escape)
    if shift > 8 or tokens.plain < 1:
        raise cursor.fail("tokens of at most 256 values", (shift, count))
    block_rows = _read_block_rows(cursor, layout)
    states = _read_states(cursor) if form & _TRELLIS else 0
    escape = _read_escape(cursor, low) if has_escape else None
    neighbour = _read_neighbour(cursor, layout) if form & _NEIGHBOUR else None
    if (states or neighbour) and abs(low) > MAX_MAGNITUDE:
        raise cursor.fail("small values", low)
    reader = BitReader(cursor)
    scale = _read_classes(reader, layout) if form & _CLASSES else NO_CLASSES
    contexts = Contexts(scale, neighbour, states)
    tables = _read_tables(reader, contexts.tables, tokens.alphabet(has_escape))
    escape_table = None
    if escape is not None:
        escape_table = _read_tables(reader, 1, escape.alphabet(False))
    reader.finish()
    return Header(
        layout, contexts, block_rows, tokens, escape, tables, escape_table
    )


def _read_block_rows(cursor: ByteCursor, layout: Layout) -> int:
    if layout.rows <= USUAL_BLOCK_ROWS:
        return USUAL_BLOCK_ROWS
    logarithm = cursor.byte()
    if logarithm not in _BLOCK_LOGARITHMS:
        raise cursor.fail("blocks of 1024 to 65536 rows", logarithm)
    return 1 << logarithm


def _read_states(cursor: ByteCursor) -> int:
    states = 1 << min(cursor.byte(), 9)
    if states not in trellis.STATES:
        raise cursor.fail(f"a trellis of {trellis.STATES} states", states)
    return states


def _read_escape(cursor: ByteCursor, low: int) -> Tokens:
    # A window of tokens may begin a token before the least value.
    reach = 2 * MAX_SPAN
    escape_low = cursor.signed_varint(low - reach, low + reach)
    return covering(escape_low, 1 + cursor.varint(MAX_SPAN - 1))


def _read_neighbour(cursor: ByteCursor, layout: Layout) -> Neighbour:
    distance = 1 + cursor.varint(layout.positions)
    return Neighbour(distance, 1 + cursor.varint(MAX_SPAN - 1))


def _read_tables(
    reader: BitReader, count: int, alphabet: class_rans_table.Alphabet
) -> np.ndarray:
    if count > MAX_TABLES:
        raise reader.cursor.fail(f"at most {MAX_TABLES} tables", count)
    found = None
    if class_rans_native.available():
        found = native_read_tables(reader, count, alphabet)
    if found is None:
        return class_rans_table.read_tables(reader, count, alphabet)
    return found


def _read_layout(
    cursor: ByteCursor, shape: Sequence[int], view: int, lanes: int
) -> Layout:
    if view >= len(VIEWS) or lanes > 5:
        raise cursor.fail("a view and at most 32 lanes", (view, lanes))
    try:
        return layout_of(shape, VIEWS[view], 1 << lanes)
    except ValueError:
        raise cursor.fail("a view that fits the shape", VIEWS[view]) from None


def _read_classes(reader: BitReader, layout: Layout) -> ScaleClasses:
    classes = 1 + reader.field(4)
    merge = reader.field(2)
    present = reader.take(3).tolist()
    sizes = layout.channels, layout.inputs, layout.taps
    lists = [
        _read_exponents(reader, size) if is_there else None
        for size, is_there in zip(sizes, present, strict=True)
    ]
    return ScaleClasses(classes, merge, *lists)


def _read_exponents(reader: BitReader, count: int) -> np.ndarray:
    if class_rans_native.available():
        found = native_read_exponents(reader, count, _MOST_EXPONENT)
        if found is not None:
            return found
    width = reader.field(3)
    middle = reader.field(8) - _EXPONENT_OFFSET
    mapped = reader.unary(count, _MOST_EXPONENT >> width) << width
    mapped = mapped + reader.variable(np.full(count, width))
    return unzigzag(mapped) + middle
