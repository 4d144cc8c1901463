"""Reading the bytes of `float_fields`, which describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.batch import decode_all
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.codec import Codec, EncodedItem
from keras_squeeze.codecs.float_fields_classes import (
    MAX_CLASSES,
    Alphabet,
    ClassModel,
    Neighbours,
    class_counts,
    halves,
    ungroup,
)
from keras_squeeze.codecs.float_fields_lists import read_list
from keras_squeeze.codecs.float_fields_palette import read_palette
from keras_squeeze.codecs.float_fields_split import Split, mantissa_bits
from keras_squeeze.codecs.float_fields_writing import (
    BETWEEN,
    MAX_GRAIN,
    ROWS,
    SIGNED,
    field_shape,
    spread,
)
from keras_squeeze.codecs.rans import Rans

_KEPT, _MOST_KEPT = 0xF, 4
_EDGE_REACH = 1 << 30
_SYMBOLS = Rans()
_NO_SYMBOLS = np.zeros(0, np.uint16)


@dataclass(slots=True, eq=False)
class Fields:
    """A header that has been checked, and the symbols decoded so far."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    cursor: ByteCursor
    alphabet: Alphabet
    grain: np.ndarray
    model: ClassModel
    symbols: np.ndarray = field(default_factory=lambda: _NO_SYMBOLS)

    @property
    def field_shape(self) -> tuple[int, ...]:
        """The shape of the floats."""
        return field_shape(self.shape, self.dtype)

    @property
    def first_shape(self) -> tuple[int, ...]:
        """The shape of those that are coded first."""
        shape = list(self.field_shape)
        if self.model.neighbours is not None:
            axis = self.model.neighbours.axis
            shape[axis] = (shape[axis] + 1) // 2
        return tuple(shape)


def read_header(
    cursor: ByteCursor,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    has_palette: bool,
) -> Fields:
    """Reads everything before the symbols.

    Args:
        cursor: ByteCursor at the byte of flags.
        shape: The declared shape, of an array with elements.
        dtype: The declared dtype.
        has_palette: Boolean. Whether the array has a palette.

    Returns:
        The `Fields`, without symbols.

    Raises:
        CorruptArtifactError: If the bytes are no header.
    """
    floats = field_shape(shape, dtype)
    mantissa = mantissa_bits(dtype)
    word_bits = 8 * dtypes.word_size(dtype)
    flags = cursor.byte()
    alphabet: Alphabet
    if has_palette:
        if flags & ~BETWEEN:
            raise cursor.fail("the flags of a palette", flags)
        alphabet = read_palette(cursor, word_bits, mantissa, read_list)
        grain = spread(0, None, len(floats))
    else:
        alphabet = _read_split(cursor, flags, word_bits, mantissa)
        least = cursor.varint(MAX_GRAIN)
        rows = read_list(cursor, floats[0]) if flags & ROWS else None
        grain = spread(least, rows, len(floats))
    model = _read_model(cursor, floats, bool(flags & BETWEEN))
    return Fields(shape, dtype, cursor, alphabet, grain, model)


def decode_symbols(fields: Sequence[Fields]) -> None:
    """Decodes the symbols of all arrays: first ones, then those between."""
    plans = [(f, f.model.scale_classes(f.first_shape)) for f in fields]
    for f, symbols in zip(fields, _decode_groups(plans), strict=True):
        f.symbols = symbols
    later = [f for f in fields if f.model.neighbours is not None]
    plans = [(f, _later_classes(f)) for f in later]
    for f, odd in zip(later, _decode_groups(plans), strict=True):
        f.symbols = _interleave(f, odd)


def join(fields: Fields) -> np.ndarray:
    """The array: symbols and tails put together."""
    widths = fields.alphabet.tail_widths(fields.symbols, fields.grain)
    symbols, fields.symbols = fields.symbols.reshape(-1), _NO_SYMBOLS
    bits = fields.alphabet.join(symbols, widths.reshape(-1), fields.cursor)
    fields.cursor.finish()
    return dtypes.from_bit_patterns(bits, fields.shape, fields.dtype)


def _read_split(
    cursor: ByteCursor, flags: int, word_bits: int, mantissa: int
) -> Split:
    kept = flags & _KEPT
    if flags >> 7 or kept > min(mantissa, _MOST_KEPT):
        raise cursor.fail("flags and mantissa bits of this dtype", flags)
    heads = 1 << word_bits - 1 - mantissa + kept
    low = cursor.varint(heads - 1)
    trim = cursor.varint(mantissa)
    return Split(word_bits, mantissa, kept, bool(flags & SIGNED), low, trim)


def _read_model(
    cursor: ByteCursor, shape: Sequence[int], between: bool
) -> ClassModel:
    mask = cursor.varint((1 << len(shape)) - 1)
    offsets = {
        axis: read_list(cursor, length)
        for axis, length in enumerate(shape)
        if mask >> axis & 1
    }
    greatest = sum(int(numbers.max()) for numbers in offsets.values())
    if greatest >= MAX_CLASSES:
        raise cursor.fail(f"fewer than {MAX_CLASSES} classes", greatest + 1)
    if not between:
        return ClassModel(offsets)
    return ClassModel(offsets, _read_neighbours(cursor, shape))


def _read_neighbours(cursor: ByteCursor, shape: Sequence[int]) -> Neighbours:
    axis = cursor.varint(len(shape) - 1)
    if shape[axis] < 2:
        raise cursor.fail("an axis with neighbours", shape[axis])
    top = cursor.varint((1 << 11) - 1)
    edges = [
        cursor.signed_varint(-_EDGE_REACH, _EDGE_REACH)
        for _ in range(cursor.byte())
    ]
    if edges != sorted(edges):
        raise cursor.fail("ascending edges", edges)
    return Neighbours(axis, top, np.array(edges, np.int64))


def _later_classes(fields: Fields) -> np.ndarray:
    beside = fields.model.neighbours
    assert beside is not None  # noqa: S101 - for the type checker
    odd = fields.field_shape[beside.axis] // 2
    return beside.classes(fields.symbols, odd, fields.alphabet)


def _interleave(fields: Fields, odd: np.ndarray) -> np.ndarray:
    beside = fields.model.neighbours
    assert beside is not None  # noqa: S101 - for the type checker
    out = np.empty(fields.field_shape, np.uint16)
    first, second = halves(out, beside.axis)
    first[...], second[...] = fields.symbols, odd
    return out


def _decode_groups(
    plans: Sequence[tuple[Fields, np.ndarray]],
) -> list[np.ndarray]:
    """Decodes the symbols of each class, for all arrays together."""
    counts = [class_counts(classes) for _, classes in plans]
    items: list[tuple[Codec, EncodedItem]] = []
    for (fields, _), sizes in zip(plans, counts, strict=True):
        cursor = fields.cursor
        for size in sizes[sizes > 0].tolist():
            data = cursor.take(cursor.varint(cursor.remaining))
            items.append((_SYMBOLS, (data, (size,), np.uint16)))
    # Given away from the end on, so that memory holds none of them twice.
    decoded = decode_all(items)
    out = []
    for (fields, classes), sizes in zip(plans[::-1], counts[::-1], strict=True):
        groups = [decoded.pop() for size in sizes if size][::-1]
        symbols = ungroup(groups, classes)
        limit = fields.alphabet.symbol_limit
        if int(symbols.max(initial=0)) >= limit:
            raise fields.cursor.fail(f"symbols below {limit}", symbols.max())
        out.append(symbols)
    return out[::-1]
