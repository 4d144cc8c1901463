"""Static range asymmetric numeral systems for small alphabets of integers.

Layout, for an array of `n` elements whose values span `low..high`:

- byte: `precision - 1` (the top four bits are zero);
- signed varint: `low`;
- varint: `span - 1`, where `span = high - low + 1` is at most 4096. If it is
  0 the precision is written as 1, all elements are `low`, and nothing follows;
- varint: the mode, the symbol that the table does not write;
- varint: `lanes - 1`;
- the frequency table, as `rans_table` describes it;
- `lanes` states of 32 bits, then 16-bit words up to the end of the data, all
  little-endian, as `rans_lanes` describes them.

The symbols are `value - low` in C order. The last step is filled up with the
mode. After the last step every lane's state must be `2**16` and every word
must have been used. Two rules bound what hostile data can ask for: a lane
holds at most 4096 symbols, and `2**precision` is at most `max(256, 4 * n)`.

An array without elements is no bytes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import dtypes, rans_lanes, rans_table
from keras_squeeze.codecs.bitpack import add_offset, subtract_offset
from keras_squeeze.codecs.blocks import blocks
from keras_squeeze.codecs.byte_cursor import (
    ByteCursor,
    signed_varint,
    varint,
)
from keras_squeeze.codecs.codec import Codec, EncodedItem, describe
from keras_squeeze.codecs.logarithms import log2_of, n_log_n
from keras_squeeze.errors import CorruptArtifactError

# What a reader accepts.
_MAX_STEPS = 4096
# Measured: of the 32 bits of a lane's state about 24 are wasted. Lanes are as
# many as keep that below two percent, within these numbers of steps: a step
# takes about 20 microseconds however few lanes there are.
_WASTE_BITS = 24
_WASTE = 0.02
_USUAL_STEPS = (1024, 1536)
_SURE_WASTE_BITS = 20
_STATE_BYTES = 4
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class _Parsed:
    """A header that has been checked: what to do with the decoded slots."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    count: int
    low: int
    mode: int = 0
    symbols: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    stream: rans_lanes.LaneStream | None = None


class Rans(Codec):
    """Entropy coding with one static table: the workhorse for codes.

    Takes integer arrays (and booleans) whose values span at most 4096. Comes
    within about two percent of the order-0 entropy, and decodes all tensors of
    a batch in one vectorised loop. Most damage is noticed, but not all: a
    file that must be trusted needs checksums besides.

    Example:
    >>> import numpy as np
    >>> codes = np.zeros(10000, "int8")
    >>> codes[::10] = 7
    >>> len(Rans().encode(codes)) < 700
    True

    References:
        - Duda, [Asymmetric numeral systems](https://arxiv.org/abs/1311.2540),
          2013.
    """

    id: ClassVar[str] = "rans"

    def supports(self, array: np.ndarray) -> bool:
        """Whether these are integers that span at most 4096 values."""
        if not dtypes.is_supported(array.dtype):
            return False
        if not dtypes.is_integer(array.dtype):
            return False
        if array.size == 0:
            return True
        return int(array.max()) - int(array.min()) < rans_table.MAX_SPAN

    def size_hint(self, array: np.ndarray) -> int:
        """The order-0 entropy, the states of the lanes, the least table."""
        if array.size == 0:
            return 0
        counts = _count(dtypes.flat_native(array))[0]
        payload = entropy_bits(counts)
        lanes = lane_count(array.size, payload / array.size)
        return int(payload + counts.size + _SURE_WASTE_BITS * lanes) // 8 + 3

    def encode(self, array: np.ndarray) -> bytes:
        """Codes the elements in C order."""
        self.require_support(array)
        if array.size == 0:
            return b""
        flat = dtypes.flat_native(array)
        counts, low = _count(flat)
        start = signed_varint(low) + varint(counts.size - 1)
        if counts.size == 1:
            return b"\0" + start
        table = rans_table.fit(counts)
        payload = rans_table.payload_bits(counts, table)
        lanes = lane_count(flat.size, payload / flat.size)
        steps = -(-flat.size // lanes)
        padded = np.full(steps * lanes, table.mode, f"u{min(flat.itemsize, 2)}")
        for block in blocks(flat.size):
            padded[block] = subtract_offset(flat[block], low)
        states, words = rans_lanes.encode_lanes(
            padded.reshape(steps, lanes), table.frequencies, table.precision
        )
        del padded
        parts: list[bytes | memoryview] = [
            bytes([table.precision - 1]) + start,
            varint(table.mode) + varint(lanes - 1) + rans_table.write(table),
            states.astype("<u4").tobytes(),
            words.astype("<u2", copy=False).view(np.uint8).data,
        ]
        return b"".join(parts)

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Decodes one array; see `Codec.decode`."""
        return self.decode_many([(data, shape, dtype)])[0]

    def decode_many(self, items: Sequence[EncodedItem]) -> list[np.ndarray]:
        """Decodes all arrays in one loop; see `Codec.decode_many`."""
        parsed = [self._parse(*item) for item in items]
        streams = [p.stream for p in parsed if p.stream is not None]
        results = rans_lanes.iterate_lanes(streams)
        return [
            self._finish(p, *next(results))
            if p.stream is not None
            else np.full(p.shape, p.low, p.dtype)
            for p in parsed
        ]

    def _parse(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> _Parsed:
        dtype = dtypes.dtype_from_name(dtype)
        count = dtypes.element_count(shape, dtype)
        shape = tuple(shape)
        cursor = ByteCursor(data, self.id)
        if not dtypes.is_integer(dtype):
            raise cursor.fail("an integer dtype", dtype.name)
        if count == 0:
            cursor.finish()
            return _Parsed(shape, dtype, 0, 0)
        precision = cursor.byte() + 1
        limit = rans_table.max_precision(count)
        low = cursor.signed_varint(*dtypes.integer_range(dtype))
        room = dtypes.integer_range(dtype)[1] - low
        span = 1 + cursor.varint(min(room, rans_table.MAX_SPAN - 1))
        if span == 1 and precision == 1:
            cursor.finish()
            return _Parsed(shape, dtype, count, low)
        if precision > limit or span == 1:
            raise cursor.fail(f"a precision of at most {limit} bits", precision)
        mode = cursor.varint(span - 1)
        lanes = 1 + cursor.varint(count - 1)
        table = rans_table.read(cursor, precision, span, mode)
        symbols, slots = rans_lanes.slot_table(table.frequencies)
        stream = self._read_stream(cursor, precision, slots, count, lanes)
        return _Parsed(shape, dtype, count, low, mode, symbols, stream)

    def _read_stream(
        self,
        cursor: ByteCursor,
        precision: int,
        table: np.ndarray,
        count: int,
        lanes: int,
    ) -> rans_lanes.LaneStream:
        steps = -(-count // lanes)
        if steps > _MAX_STEPS:
            raise cursor.fail(f"lanes of at most {_MAX_STEPS} symbols", steps)
        states = np.frombuffer(cursor.take(_STATE_BYTES * lanes), "<u4")
        if int(states.min()) < rans_lanes.STATE_LOW:
            raise cursor.fail("states of at least 65536", states.min())
        if cursor.remaining % 2:
            raise cursor.fail("whole 16-bit words", cursor.remaining)
        words = np.frombuffer(cursor.take_rest(), "<u2")
        return rans_lanes.LaneStream(
            precision,
            table,
            steps,
            states.astype(np.uint32),
            words,
        )

    def _finish(
        self, parsed: _Parsed, slots: np.ndarray, whole: bool
    ) -> np.ndarray:
        flat = slots.reshape(-1)
        filled = parsed.symbols[flat[parsed.count :]] == parsed.mode
        if not whole or not filled.all():
            raise CorruptArtifactError(
                describe(
                    self.id,
                    "all words used and every lane back at its start",
                    "a stream that does not end so",
                    parsed.shape,
                )
            )
        values = add_offset(parsed.symbols, parsed.low, parsed.dtype)
        if parsed.dtype.itemsize == flat.itemsize:
            out = flat.view(parsed.dtype)[: parsed.count]
        else:
            out = np.empty(parsed.count, parsed.dtype)
        # Looking up needs 8 bytes an index: a piece at a time.
        for start in range(0, parsed.count, _PIECE):
            piece = out[start : start + _PIECE]
            piece[:] = values[flat[start : start + piece.size]]
        return out.reshape(parsed.shape)


def lane_count(count: int, bits_per_symbol: float) -> int:
    """How many lanes to use: few waste little, many decode fast.

    Args:
        count: Integer. The number of symbols.
        bits_per_symbol: Float. Their average code length.

    Returns:
        Integer, at least 1.
    """
    wanted = _WASTE_BITS / _WASTE / max(bits_per_symbol, 1e-9)
    steps = min(max(wanted, _USUAL_STEPS[0]), _USUAL_STEPS[1])
    lanes = -(-count // int(steps))
    # Wide vector units like whole groups of lanes.
    return lanes if lanes < 32 else -(-lanes // 8) * 8


def entropy_bits(counts: np.ndarray) -> float:
    """The order-0 entropy of data with these counts, in bits altogether."""
    total = counts.sum()
    return float(total * log2_of(total) - n_log_n(counts).sum())


def _count(flat: np.ndarray) -> tuple[np.ndarray, int]:
    """How often each value occurs from the least one on, and that one."""
    low, high = int(flat.min()), int(flat.max())
    counts = np.zeros(high - low + 1, np.int64)
    for block in blocks(flat.size):
        symbols = subtract_offset(flat[block], low).astype(np.uint16)
        counts += np.bincount(symbols, minlength=counts.size)
    return counts, low
