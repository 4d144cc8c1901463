"""Floats as symbols worth modelling and bits that are noise.

The *head* of a float is its exponent and the first few bits of its mantissa,
as one integer. A *symbol* is 0 for zero and the head less the least head,
plus 1, for everything else; if signs are modelled it is doubled, and odd for
negative values. What a symbol leaves open is the *tail*: the sign bit, unless
it is modelled, and the rest of the mantissa.

Rounded values end in zero bits, which are not written. Either all mantissas
do: the *trim* says in how many. Or small values end in more of them than
large ones, because all are multiples of some power of two. It is called the
*grain*: an exponent field such that no value has a bit below the last
mantissa bit of a float with that exponent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_squeeze.codecs.blocks import blocks, tiles
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.float_fields_tails import TailPacker, TailReader

_MANTISSA_BITS = {
    "float8_e4m3fn": 3,
    "float8_e5m2": 2,
    "bfloat16": 7,
    "float16": 10,
    "float32": 23,
    "complex64": 23,
    "float64": 52,
    "complex128": 52,
}

# Symbols fit, unless those of wide floats are cut finely.
_NARROW = 1 << 16


def mantissa_bits(dtype: np.dtype[Any]) -> int:
    """The stored mantissa bits of a float (of a part of a complex number)."""
    return _MANTISSA_BITS[dtype.name]


@dataclass(frozen=True, slots=True)
class Split:
    """Where floats are cut in two.

    Args:
        word_bits: Integer. The bits of a float.
        mantissa: Integer. Its mantissa bits.
        kept: Integer. How many of these belong to the head.
        signed: Boolean. Whether symbols hold the sign.
        low: Integer. The least head of any value but zero.
        trim: Integer. How many bits at the end of all mantissas are zero.
    """

    word_bits: int
    mantissa: int
    kept: int
    signed: bool
    low: int
    trim: int = 0

    @property
    def rest(self) -> int:
        """The mantissa bits that are not in the head."""
        return self.mantissa - self.kept

    @property
    def symbol_limit(self) -> int:
        """One more than the greatest symbol there can be."""
        heads = 1 << self.word_bits - 1 - self.rest
        return (heads - self.low + 1) << self.signed

    def symbols(self, patterns: np.ndarray) -> np.ndarray:
        """The symbols of bit patterns, uint16 or int32 of the same shape."""
        narrow = self.symbol_limit <= _NARROW
        symbols = np.empty(patterns.shape, np.uint16 if narrow else np.int32)
        flat, source = symbols.reshape(-1), patterns.reshape(-1)
        for block in blocks(flat.size):
            part = source[block]
            found = heads(part, self.rest) - np.int32(self.low - 1)
            found[magnitudes(part) == 0] = 0
            flat[block] = 2 * found + signs(part) if self.signed else found
        return symbols

    def heads_of(self, symbols: np.ndarray) -> np.ndarray:
        """The heads of symbols, 0 for zero, int64."""
        heads = symbols.astype(np.int64)
        heads >>= self.signed
        heads += (self.low - 1) * (heads != 0)
        return heads

    def exponents_of(self, symbols: np.ndarray) -> np.ndarray:
        """The exponent fields of symbols, int64, 1 for subnormal values."""
        found: np.ndarray = np.maximum(self.heads_of(symbols) >> self.kept, 1)
        return found

    def is_zero(self, symbols: np.ndarray) -> np.ndarray:
        """Where symbols stand for zero."""
        found: np.ndarray = symbols >> self.signed == 0
        return found

    def is_negative(self, symbols: np.ndarray) -> np.ndarray:
        """Where symbols stand for values known to be negative."""
        found: np.ndarray = symbols & self.signed == 1
        return found

    def tail_widths(self, symbols: np.ndarray, grain: np.ndarray) -> np.ndarray:
        """How many bits the tails have.

        Args:
            symbols: Integer array.
            grain: Integer array that broadcasts to it.

        Returns:
            uint8 array.
        """
        limit = int(symbols.max(initial=0)) + 1
        exponents = self.exponents_of(np.arange(limit)).astype(np.int32)
        exponents[: 1 << self.signed] = -(1 << 20)
        if grain.size == 1:
            table = self._widths(int(grain.flat[0]) - exponents)
            found = np.empty(symbols.size, np.uint8)
            flat = symbols.reshape(-1)
            for block in blocks(found.size):
                found[block] = table[flat[block]]
            return found.reshape(symbols.shape)
        widths = np.empty(symbols.shape, np.uint8)
        for tile in tiles(symbols.shape):
            zeros = grain[tile[0]].astype(np.int32) - exponents[symbols[tile]]
            widths[tile] = self._widths(zeros)
        return widths

    def _widths(self, zeros: np.ndarray) -> np.ndarray:
        least = min(self.trim, self.rest)
        widths = self.rest - np.clip(zeros, least, self.rest)
        found: np.ndarray = (widths + (not self.signed)).astype(np.uint8)
        return found

    def tails(
        self, patterns: np.ndarray, widths: np.ndarray
    ) -> Iterator[bytes | memoryview]:
        """The tails as bytes, those of one width together, narrow ones first.

        Args:
            patterns: One-dimensional unsigned array.
            widths: What `tail_widths` said.

        Yields:
            Bytes.
        """
        for width, count in _counts(widths):
            packer, used = TailPacker(count, width), 0
            for block in blocks(patterns.size):
                chosen = patterns[block][widths[block] == width]
                packer.put(used, self._tail(chosen, width))
                used += chosen.size
            yield from packer.pieces()

    def _tail(self, patterns: np.ndarray, width: int) -> np.ndarray:
        word = patterns.dtype.type
        below = width - (not self.signed)
        tail: np.ndarray = patterns & word((1 << self.rest) - 1)
        tail >>= word(self.rest - below)
        if not self.signed:
            tail |= patterns >> word(self.word_bits - 1) << word(below)
        return tail

    def join(
        self, symbols: np.ndarray, widths: np.ndarray, cursor: ByteCursor
    ) -> np.ndarray:
        """Puts symbols and tails together again.

        Args:
            symbols: One-dimensional integer array, every one below
                `symbol_limit`; overwritten where the patterns fit in.
            widths: What `tail_widths` said.
            cursor: ByteCursor at the first byte of the tails.

        Returns:
            One-dimensional unsigned array of bit patterns.
        """
        word = np.dtype(f"u{self.word_bits // 8}").type
        limit = int(symbols.max(initial=0)) + 1
        table = self.heads_of(np.arange(limit)).astype(word) << word(self.rest)
        if self.signed:
            table[1::2] |= word(1 << self.word_bits - 1)
        out = symbols
        if symbols.dtype != word:
            out = np.empty(symbols.size, word)
        for block in blocks(out.size):
            out[block] = table[symbols[block]]
        for width, count in _counts(widths):
            tails = TailReader(cursor, count, width, word)
            self._add_tails(out, tails, width, widths)
        return out

    def _add_tails(
        self,
        out: np.ndarray,
        tails: TailReader,
        width: int,
        widths: np.ndarray,
    ) -> None:
        word = out.dtype.type
        raw_sign = not self.signed
        below, used = width - raw_sign, 0
        for block in blocks(out.size):
            mine = widths[block] == width
            part = tails.take(used, int(np.count_nonzero(mine)))
            used += part.size
            pattern = (part & word((1 << below) - 1)) << word(self.rest - below)
            if raw_sign:
                pattern |= part >> word(below) << word(self.word_bits - 1)
            if part.size == mine.size:
                out[block] |= pattern
            else:
                out[block][mine] |= pattern


def heads(patterns: np.ndarray, rest: int) -> np.ndarray:
    """Exponent and mantissa above the last `rest` bits, int32."""
    word = patterns.dtype.type
    found: np.ndarray = (magnitudes(patterns) >> word(rest)).astype(np.int32)
    return found


def magnitudes(patterns: np.ndarray) -> np.ndarray:
    """The bit patterns without their signs."""
    sign = 1 << 8 * patterns.itemsize - 1
    out: np.ndarray = patterns & patterns.dtype.type(sign - 1)
    return out


def signs(patterns: np.ndarray) -> np.ndarray:
    """The sign bits, int32."""
    top = patterns.dtype.type(8 * patterns.itemsize - 1)
    found: np.ndarray = (patterns >> top).astype(np.int32)
    return found


def common_zeros(patterns: np.ndarray, mantissa: int) -> int:
    """How many bits at the end of all mantissas are zero, for the trim."""
    used = int(np.bitwise_or.reduce(patterns.reshape(-1)))
    used &= (1 << mantissa) - 1
    return (used & -used).bit_length() - 1 if used else mantissa


def row_grains(patterns: np.ndarray, mantissa: int) -> np.ndarray:
    """The least grain of each row of the first axis; a great one for zeros.

    Args:
        patterns: Unsigned array.
        mantissa: Integer. The mantissa bits of the floats.

    Returns:
        int32 array.
    """
    out = np.full(len(patterns), 1 << 20, np.int32)
    for tile in tiles(patterns.shape):
        part = patterns[tile]
        found = grains(part, mantissa).reshape(len(part), -1).min(axis=1)
        out[tile[0]] = np.minimum(out[tile[0]], found)
    return out


def grains(patterns: np.ndarray, mantissa: int) -> np.ndarray:
    """The grain of every value, int32; a great one for zeros.

    Args:
        patterns: Unsigned array, not large.
        mantissa: Integer. The mantissa bits of the floats.

    Returns:
        int32 array of the same shape.
    """
    word = patterns.dtype.type
    exponents = heads(patterns, mantissa)
    normal = (exponents > 0).astype(word)
    value = (patterns & word((1 << mantissa) - 1)) | (normal << word(mantissa))
    lowest = value & (~value + word(1))
    # A power of two is exact as a float, and its exponent is the bit's place.
    place = np.frexp(lowest.astype(np.float64))[1].astype(np.int32) - 1
    grain = np.maximum(exponents, 1) + place
    return np.where(value == 0, np.int32(1 << 20), grain)


def _counts(widths: np.ndarray) -> list[tuple[int, int]]:
    """The widths there are but 0, ascending, and how many have each."""
    counts = np.zeros(256, np.int64)
    for block in blocks(widths.size):
        counts += np.bincount(widths[block], minlength=256)
    return [(int(w), int(counts[w])) for w in np.flatnonzero(counts) if w]
