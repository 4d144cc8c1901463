"""The bytes of `float_fields`, which describes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from keras_squeeze.codecs import dtypes, float_fields_search
from keras_squeeze.codecs.blocks import tiles
from keras_squeeze.codecs.byte_cursor import signed_varint, varint
from keras_squeeze.codecs.float_fields_classes import (
    Alphabet,
    ClassModel,
    group,
    halves,
)
from keras_squeeze.codecs.float_fields_lists import write_list
from keras_squeeze.codecs.float_fields_palette import (
    Palette,
    find_palette,
    write_palette,
)
from keras_squeeze.codecs.float_fields_split import (
    Split,
    mantissa_bits,
    row_grains,
)
from keras_squeeze.codecs.rans_streams import encode_streams

#: A part of what is written.
Piece: TypeAlias = bytes | memoryview

FIELDS, PALETTE = 1, 2
SIGNED, BETWEEN, ROWS = 1 << 4, 1 << 5, 1 << 6
MAX_GRAIN = 1 << 12


def field_shape(shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """The shape of an array's floats: complex numbers are pairs of them."""
    return tuple(shape) + ((2,) if dtype.kind == "c" else ()) or (1,)


def encode_fields(array: np.ndarray) -> bytes:
    """Codes an array, which has elements, as fields or as a palette."""
    shape = field_shape(array.shape, array.dtype)
    patterns = dtypes.bit_patterns(array).reshape(shape)
    mantissa = mantissa_bits(array.dtype)
    palette = find_palette(patterns, mantissa)
    values = write_palette(palette, write_list) if palette else b""
    alphabet, model = float_fields_search.choose(
        patterns, mantissa, palette, 8 * len(values)
    )
    symbols = alphabet.symbols(patterns)
    between = BETWEEN * (model.neighbours is not None)
    tails: list[Piece] = []
    if isinstance(alphabet, Palette):
        header = bytes([PALETTE, between]) + values
    else:
        header, tails = _fields(patterns, symbols, alphabet, between)
    coded = _write_symbols(symbols, model, alphabet)
    pieces: list[Piece] = [header, _write_model(model), *coded]
    del symbols
    return b"".join(pieces + tails)


def spread(least: int, rows: np.ndarray | None, rank: int) -> np.ndarray:
    """The grains of rows as an array that broadcasts to the whole."""
    if rows is None:
        return np.full((1,) * rank, least, np.int32)
    return (rows.astype(np.int32) + least).reshape(-1, *(1,) * (rank - 1))


def _fields(
    patterns: np.ndarray, symbols: np.ndarray, split: Split, between: int
) -> tuple[bytes, list[Piece]]:
    """The header up to the classes, and the tails."""
    least, rows = _choose_grain(patterns, symbols, split)
    flags = split.kept | SIGNED * split.signed | between
    flags |= ROWS * (rows is not None)
    header = [
        bytes([FIELDS, flags]) + varint(split.low) + bytes([split.trim]),
        varint(least),
        b"" if rows is None else write_list(rows),
    ]
    widths = split.tail_widths(symbols, spread(least, rows, patterns.ndim))
    tails = split.tails(patterns.reshape(-1), widths.reshape(-1))
    return b"".join(header), list(tails)


def _choose_grain(
    patterns: np.ndarray, symbols: np.ndarray, split: Split
) -> tuple[int, np.ndarray | None]:
    """The grain of the array, and what rows have beyond it where that pays."""
    of_row = row_grains(patterns, split.mantissa)
    least = min(int(of_row.min()), MAX_GRAIN)
    if patterns.ndim < 2 or len(patterns) < 2:
        return least, None
    rows = np.minimum(of_row - least, 255).astype(np.uint8)
    one = spread(least, None, patterns.ndim)
    own = spread(least, rows, patterns.ndim)
    saved = 0
    for tile in tiles(symbols.shape):
        some = symbols[tile]
        widths = split.tail_widths(some, one)
        saved += int(widths.sum(dtype=np.int64))
        widths = split.tail_widths(some, own[tile[0]])
        saved -= int(widths.sum(dtype=np.int64))
    return least, rows if saved > 8 * len(write_list(rows)) else None


def _write_model(model: ClassModel) -> bytes:
    axes = sorted(model.offsets)
    mask = sum(1 << axis for axis in axes)
    out = [varint(mask), *(write_list(model.offsets[a]) for a in axes)]
    if model.neighbours is not None:
        beside = model.neighbours
        out += [bytes([beside.axis]), varint(beside.top)]
        out += [bytes([beside.edges.size])]
        out += [signed_varint(edge) for edge in beside.edges.tolist()]
    return b"".join(out)


def _write_symbols(
    symbols: np.ndarray, model: ClassModel, alphabet: Alphabet
) -> Iterator[bytes]:
    if model.neighbours is None:
        yield from _write_groups(symbols, model.scale_classes(symbols.shape))
        return
    axis = model.neighbours.axis
    even, odd = halves(symbols, axis)
    yield from _write_groups(even, model.scale_classes(even.shape))
    classes = model.neighbours.classes(even, odd.shape[axis], alphabet)
    yield from _write_groups(odd, classes)


def _write_groups(symbols: np.ndarray, classes: np.ndarray) -> Iterator[bytes]:
    groups = [g for g in group(symbols, classes) if g.size]
    for data in encode_streams(groups):
        yield varint(len(data)) + data
