"""Canonical Huffman codes for small alphabets of integers.

Layout, for an array of `n` elements whose values span `low..high`:

- signed varint: `low`;
- varint: `span - 1`, where `span = high - low + 1` is at most 4096. If it is
  0, all elements are `low`, and nothing follows;
- varint: `lanes - 1`. A lane holds at most 4096 symbols;
- a run of bits: for each symbol the length of its code, 0 (it does not occur)
  to 15, as the difference to the one before it (starting from 0), zigzag
  mapped, in unary: that many zeros and a one. No code is missing:
  the sum of `2**-length` is 1;
- for each lane 16 bits, little-endian: how many bits it has;
- the lanes, one after the other, as one run of bits.

The symbols are `value - low` in C order; symbol `i` belongs to lane
`i % lanes`, and the last step is filled up with the first of the symbols with
the shortest code. Codes are canonical: shorter ones are the smaller numbers,
and among those of one length they ascend with the symbol.

An array without elements is no bytes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import bits, dtypes
from keras_squeeze.codecs.bitpack import add_offset, subtract_offset
from keras_squeeze.codecs.byte_cursor import (
    ByteCursor,
    signed_varint,
    varint,
)
from keras_squeeze.codecs.codec import Codec
from keras_squeeze.codecs.huffman_code import (
    MAX_LENGTH,
    canonical_codes,
    decoding_table,
    limited_lengths,
)
from keras_squeeze.codecs.rans import Rans

_MAX_SPAN = 4096
_MAX_STEPS = 4096
_STEPS = 1024
_PIECE = 1 << 18
_SAME_ARRAYS = Rans()


class Huffman(Codec):
    """The best code of whole bits a symbol, for comparison.

    Takes integer arrays (and booleans) whose values span at most 4096. `rans`
    is smaller, because it spends fractions of a bit.

    Example:
    >>> import numpy as np
    >>> codes = np.zeros(10000, "int8")
    >>> codes[::10] = 7
    >>> len(Huffman().encode(codes)) < 1400
    True

    References:
        - Larmore and Hirschberg, A fast algorithm for optimal length-limited
          Huffman codes, Journal of the ACM 37(3), 1990.
    """

    id: ClassVar[str] = "huffman"

    def supports(self, array: np.ndarray) -> bool:
        """Whether these are integers that span at most 4096 values."""
        return _SAME_ARRAYS.supports(array)

    def encode(self, array: np.ndarray) -> bytes:
        """Codes the elements in C order."""
        self.require_support(array)
        if array.size == 0:
            return b""
        flat = dtypes.flat_native(array)
        low = int(flat.min())
        symbols = subtract_offset(flat, low).astype(np.int64)
        counts = np.bincount(symbols)
        start = signed_varint(low) + varint(counts.size - 1)
        if counts.size == 1:
            return start
        lengths = limited_lengths(counts)
        lanes = -(-symbols.size // _STEPS)
        sizes, payload = _encode_lanes(symbols, lengths, lanes)
        steps = bits.unary_bits(_zigzag(np.diff(lengths, prepend=0)))
        return b"".join(
            [
                start + varint(lanes - 1),
                np.packbits(steps).tobytes(),
                sizes.astype("<u2").tobytes(),
                payload,
            ]
        )

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Decodes one array; see `Codec.decode`."""
        dtype = dtypes.dtype_from_name(dtype)
        count = dtypes.element_count(shape, dtype)
        cursor = ByteCursor(data, self.id)
        if not dtypes.is_integer(dtype):
            raise cursor.fail("an integer dtype", dtype.name)
        if count == 0:
            cursor.finish()
            return np.empty(tuple(shape), dtype)
        least, greatest = dtypes.integer_range(dtype)
        low = cursor.signed_varint(least, greatest)
        span = 1 + cursor.varint(min(greatest - low, _MAX_SPAN - 1))
        if span == 1:
            cursor.finish()
            return np.full(tuple(shape), low, dtype)
        lanes = 1 + cursor.varint(count - 1)
        lengths = _read_lengths(cursor, span)
        symbols = _decode_lanes(cursor, lengths, count, lanes)
        values = add_offset(np.arange(span, dtype=np.uint16), low, dtype)
        found: np.ndarray = values[symbols].reshape(tuple(shape))
        return found


def _encode_lanes(
    symbols: np.ndarray, lengths: np.ndarray, lanes: int
) -> tuple[np.ndarray, bytes]:
    """The bits of each lane, and all of them as bytes."""
    steps = -(-symbols.size // lanes)
    padded = np.full(steps * lanes, _filler(lengths), np.int64)
    padded[: symbols.size] = symbols
    by_lane = padded.reshape(steps, lanes).T
    codes = canonical_codes(lengths)
    sizes = lengths[by_lane].sum(axis=1)
    flat = by_lane.reshape(-1)
    pieces = [
        bits.variable_bits(codes[piece], lengths[piece])
        for piece in np.split(flat, range(_PIECE, flat.size, _PIECE))
    ]
    return sizes, np.packbits(np.concatenate(pieces)).tobytes()


def _read_lengths(cursor: ByteCursor, span: int) -> np.ndarray:
    # Differences of lengths are at most 15 either way: look no further.
    longest = span * (2 * MAX_LENGTH + 1) // 8 + 1
    window = cursor.data[cursor.position : cursor.position + longest]
    steps = bits.read_unary(
        np.unpackbits(np.frombuffer(window, np.uint8)), span
    )
    if steps is None:
        raise cursor.fail(f"the lengths of {span} codes", "fewer")
    total = int(steps.sum()) + span
    packed = cursor.take((total + 7) // 8)
    if not bits.padding_is_zero(packed, total):
        raise cursor.fail("zero bits after the lengths", packed[-1])
    lengths = np.cumsum(np.where(steps & 1, -(steps + 1 >> 1), steps >> 1))
    if lengths.min() < 0 or lengths.max() > MAX_LENGTH:
        raise cursor.fail(f"lengths in 0..{MAX_LENGTH}", lengths.max())
    present = lengths[lengths > 0]
    if int((1 << MAX_LENGTH - present).sum()) != 1 << MAX_LENGTH:
        raise cursor.fail("a complete code", present.size)
    return lengths


def _decode_lanes(
    cursor: ByteCursor, lengths: np.ndarray, count: int, lanes: int
) -> np.ndarray:
    steps = -(-count // lanes)
    if steps > _MAX_STEPS:
        raise cursor.fail(f"lanes of at most {_MAX_STEPS} symbols", steps)
    sizes = np.frombuffer(cursor.take(2 * lanes), "<u2").astype(np.int64)
    ends = np.cumsum(sizes)
    total = int(ends[-1])
    packed = cursor.take((total + 7) // 8)
    cursor.finish()
    if not bits.padding_is_zero(packed, total):
        raise cursor.fail("zero bits after the last lane", packed[-1])
    position = ends - sizes
    symbols = _walk(packed, position, lengths, steps).reshape(-1)
    filled = symbols[count:] == _filler(lengths)
    if (position != ends).any() or not filled.all():
        raise cursor.fail("lanes that end where they should", "others")
    return symbols[:count]


def _walk(
    packed: memoryview, position: np.ndarray, lengths: np.ndarray, steps: int
) -> np.ndarray:
    """Decodes all lanes step by step; `position` moves to their ends."""
    data = np.frombuffer(packed, np.uint8).astype(np.uint32)
    padded = np.concatenate([data, np.zeros(3, np.uint32)])
    window = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
    table, width = decoding_table(lengths)
    mask = (1 << width) - 1
    out = np.empty((steps, position.size), np.uint16)
    for row in out:
        # A damaged lane may run beyond the end; that is found later.
        bytes_at = window.take(position >> 3, mode="clip").astype(np.int64)
        entry = table[bytes_at >> (24 - width - (position & 7)) & mask]
        row[:] = entry >> 4
        position += entry & 15
    return out


def _filler(lengths: np.ndarray) -> int:
    return int(np.where(lengths > 0, lengths, MAX_LENGTH + 1).argmin())


def _zigzag(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0, -2 * values - 1, 2 * values)
