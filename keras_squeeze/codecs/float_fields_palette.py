"""Floats that take few values: the values once, and which one each is.

The values of quantized weights are often the multiples of one step. Layout,
for floats of `p` bytes:

- varint: how many values, less one; at most 4095;
- byte: 1 if all are multiples of a step, plus 2 if negative zero is one of
  them, too; or 0;
- 0: the bit patterns, ascending, `p` bytes each, little-endian;
- else: the step, `p` bytes; the least factor as a signed varint; and for each
  following factor what it exceeds the one before by, less one, as a list. The
  value is the factor as a float times the step, rounded as IEEE 754 says.

Negative zero counts among the values, but has no factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs.blocks import blocks
from keras_squeeze.codecs.byte_cursor import (
    ByteCursor,
    signed_varint,
    varint,
)
from keras_squeeze.codecs.float_fields_split import heads, magnitudes, signs
from keras_squeeze.codecs.rans_table import MAX_SPAN

_MULTIPLES, _NEGATIVE_ZERO = 1, 2
_SAMPLE = 4096
_MOST_KEPT = 4
_MOST_FACTOR = 1 << 20
_FLOATS = {4: np.float32, 8: np.float64}
# The quotient that gives the step is off by this many units at most.
_ROUNDINGS = range(-2, 3)

WriteList = Callable[[np.ndarray], bytes]
ReadList = Callable[[ByteCursor, int], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """The values of an array; a symbol is the place of one among them.

    It stands where `Split` does, and has no tails.

    Args:
        word_bits: Integer. The bits of a float.
        mantissa: Integer. Its mantissa bits.
        values: One-dimensional unsigned array of bit patterns, ascending.
    """

    word_bits: int
    mantissa: int
    values: np.ndarray

    @property
    def kept(self) -> int:
        """The mantissa bits that neighbours are compared by."""
        return min(_MOST_KEPT, self.mantissa)

    @property
    def symbol_limit(self) -> int:
        """One more than the greatest symbol there can be."""
        return int(self.values.size)

    def symbols(self, patterns: np.ndarray) -> np.ndarray:
        """The symbols of bit patterns, uint16 of the same shape."""
        symbols = np.empty(patterns.shape, np.uint16)
        flat, source = symbols.reshape(-1), patterns.reshape(-1)
        for block in blocks(flat.size):
            flat[block] = np.searchsorted(self.values, source[block])
        return symbols

    def heads_of(self, symbols: np.ndarray) -> np.ndarray:
        """Exponent and first mantissa bits of symbols, int64."""
        table = heads(self.values, self.mantissa - self.kept)
        found: np.ndarray = table[symbols].astype(np.int64)
        return found

    def exponents_of(self, symbols: np.ndarray) -> np.ndarray:
        """The exponent fields of symbols, int64."""
        return self.heads_of(symbols) >> self.kept

    def is_zero(self, symbols: np.ndarray) -> np.ndarray:
        """Where symbols stand for zero."""
        found: np.ndarray = (magnitudes(self.values) == 0)[symbols]
        return found

    def is_negative(self, symbols: np.ndarray) -> np.ndarray:
        """Where symbols stand for negative values."""
        found: np.ndarray = (signs(self.values) == 1)[symbols]
        return found

    def tail_widths(self, symbols: np.ndarray, grain: np.ndarray) -> np.ndarray:
        """Zeros, uint8: a value is known whole."""
        return np.zeros(symbols.shape, np.uint8)

    def tails(
        self, patterns: np.ndarray, widths: np.ndarray
    ) -> Iterator[bytes]:
        """Nothing."""
        return iter(())

    def join(
        self, symbols: np.ndarray, widths: np.ndarray, cursor: ByteCursor
    ) -> np.ndarray:
        """The bit patterns of symbols."""
        found = np.empty(symbols.shape, self.values.dtype)
        for block in blocks(found.size):
            found[block] = self.values[symbols[block]]
        return found


def find_palette(patterns: np.ndarray, mantissa: int) -> Palette | None:
    """The palette of an array, if its values are few enough for one."""
    flat = patterns.reshape(-1)
    step = max(1, flat.size // _SAMPLE)
    if np.unique(flat[::step]).size > _SAMPLE // 2:
        return None
    values = flat[:0]
    for block in blocks(flat.size):
        values = np.union1d(values, flat[block])
        if values.size > MAX_SPAN:
            return None
    return Palette(8 * patterns.itemsize, mantissa, values)


def write_palette(palette: Palette, write_list: WriteList) -> bytes:
    """A palette as bytes."""
    values = palette.values
    start = varint(values.size - 1)
    negative_zero = values == 1 << palette.word_bits - 1
    found = _as_multiples(values[~negative_zero])
    if found is None:
        little = values.astype(values.dtype.newbyteorder("<"))
        return start + b"\0" + little.tobytes()
    step, factors = found
    kind = _MULTIPLES + _NEGATIVE_ZERO * bool(negative_zero.any())
    gaps = (np.diff(factors) - 1).astype(np.uint8)
    return b"".join(
        [
            start + bytes([kind]),
            step.astype(step.dtype.newbyteorder("<")).tobytes(),
            signed_varint(int(factors[0])),
            write_list(gaps),
        ]
    )


def read_palette(
    cursor: ByteCursor, word_bits: int, mantissa: int, read_list: ReadList
) -> Palette:
    """Reads what `write_palette` wrote.

    Raises:
        CorruptArtifactError: If the bytes are no palette.
    """
    count = 1 + cursor.varint(MAX_SPAN - 1)
    kind = cursor.varint(_MULTIPLES + _NEGATIVE_ZERO)
    if kind == 0:
        data = cursor.take(count * word_bits // 8)
        little = np.frombuffer(data, f"<u{word_bits // 8}")
        values = little.astype(f"u{word_bits // 8}")
    else:
        values = _read_multiples(cursor, word_bits, count, kind, read_list)
    if (values[1:] <= values[:-1]).any():
        raise cursor.fail("values that ascend", values[:4])
    return Palette(word_bits, mantissa, values)


def _read_multiples(
    cursor: ByteCursor,
    word_bits: int,
    count: int,
    kind: int,
    read_list: ReadList,
) -> np.ndarray:
    size = word_bits // 8
    with_zero = kind == _MULTIPLES + _NEGATIVE_ZERO
    if size not in _FLOATS or kind == _NEGATIVE_ZERO or count <= with_zero:
        raise cursor.fail("a kind of palette for this dtype", kind)
    step = np.frombuffer(cursor.take(size), f"<u{size}").astype(f"u{size}")
    least = cursor.signed_varint(-_MOST_FACTOR, _MOST_FACTOR)
    gaps = read_list(cursor, count - with_zero - 1)
    factors = np.cumsum([least, *(gaps.astype(np.int64) + 1)])
    values = _multiples(factors, step)
    if with_zero:
        zero = np.array([1 << word_bits - 1], values.dtype)
        values = np.concatenate([values, zero])
    return np.sort(values)


def _as_multiples(
    values: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """The step as a pattern, and the ascending factors that give the values."""
    kind = _FLOATS.get(values.itemsize)
    if kind is None or values.size < 2:
        return None
    floats = np.sort(values.view(kind))
    if not np.isfinite(floats).all():
        return None
    with np.errstate(over="ignore"):
        gap = float(np.diff(floats.astype(np.float64)).min())
    greatest = float(np.abs(floats).max())
    if not 0 < gap <= greatest or greatest / gap > _MOST_FACTOR:
        return None
    start = np.array([greatest / round(greatest / gap)], kind)
    for rounding in _ROUNDINGS:
        step = (start.view(values.dtype).astype(np.int64) + rounding).astype(
            values.dtype
        )
        factors = np.rint(floats / step.view(kind)).astype(np.int64)
        gaps = np.diff(factors)
        if gaps.min() < 1 or gaps.max() > 256:
            continue
        if (np.sort(_multiples(factors, step)) == values).all():
            return step, factors
    return None


def _multiples(factors: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Factors times the step, as bit patterns."""
    kind = _FLOATS[step.itemsize]
    with np.errstate(all="ignore"):
        product = factors.astype(kind) * step.view(kind)
    patterns: np.ndarray = product.view(step.dtype)
    return patterns
