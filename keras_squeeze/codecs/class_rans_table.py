"""Frequency tables of `class_rans`: fitting, writing, reading.

A table gives each token `0..tokens-1` a frequency; they add up to 4096. A
token may have none: the encoder then takes the escape token instead, the last
one, if there is an escape. A table is written in bits, most significant first.
Its kind comes first, in 2 bits:

- 0, *explicit*: the mantissa width `m` (4 bits), the token called the mode
  (as many bits as `tokens - 1` has); for each other token the bit length of
  its frequency as the difference to the one before (starting from 0), zigzag
  mapped, in unary: that many zeros and a one; then for each other token of
  bit length `b`, the `min(m, b - 1)` bits after the leading one of its
  frequency, the bits after those being zero. The mode has what is left.
- 1, *parametric*: a scale (7 bits) and a shape (3 bits) of
  `class_rans_family`, around the centre.
- 2, *parametric with zero*: the frequency of the centre (12 bits, 1..4095),
  then a scale and a shape for the others.
- 3, *parametric and shifted*: a scale and a shape, and how far the centre is
  from the usual one (7 bits, minus 64).

Parametric frequencies are the weights `w`, scaled to the sum `S` they share
(4096, or what the centre leaves): `(w * S + W // 2) // W` with `W` the sum of
the weights, where the escape has the weight of all distances that are no
token's, at least one of the frequencies. What rounding leaves over goes to
the first of the most frequent.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from keras_squeeze import native
from keras_squeeze.codecs import bits, class_rans_family
from keras_squeeze.codecs.class_rans_bits import (
    BitReader,
    BitWriter,
    unzigzag,
    zigzag,
)
from keras_squeeze.codecs.logarithms import first_logarithms

PRECISION = 12
TOTAL = 1 << PRECISION

EXPLICIT, _PARAMETRIC, _WITH_ZERO, _SHIFTED = range(4)
#: Centres are shifted by -64..63.
MOST_SHIFT = 64
#: What encoders expect an escaped token to take besides, in bits.
ESCAPED_TOKEN_BITS = 8.0
_EXPAND_ARGUMENTS = (
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_void_p,
)
#: Bits of tokens by frequency, for estimates only.
CODE_LENGTHS = PRECISION - first_logarithms(TOTAL + 1)
CODE_LENGTHS[0] = np.inf


@dataclass(frozen=True, slots=True)
class Alphabet:
    """What all tables of a tensor have in common.

    Args:
        tokens: Integer in 1..256, the escape included.
        center: Integer. The token of the value 0, or the one closest to it.
        escape: Boolean. Whether the last token is the escape.
    """

    tokens: int
    center: int
    escape: bool

    @property
    def plain(self) -> int:
        """How many tokens stand for values."""
        return self.tokens - self.escape


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One table and how it is written.

    Args:
        frequencies: int64 array that adds up to 4096.
        size: Integer. How many bits `write` writes.
        fields: Tuple of `(value, width)`: all of it, or of an explicit table
            what comes before the frequencies.
        mantissa: Integer, of an explicit table; -1 for others.
    """

    frequencies: np.ndarray
    size: int
    fields: tuple[tuple[int, int], ...]
    mantissa: int = -1

    def write(self, writer: BitWriter) -> None:
        """Writes the table."""
        for value, width in self.fields:
            writer.field(value, width)
        if self.mantissa >= 0:
            mode = self.fields[-1][0]
            others = np.delete(self.frequencies, mode)
            lengths, steps, widths, below = _shape_of(others, self.mantissa)
            writer.array(bits.unary_bits(steps))
            rest = (others >> below) - ((1 << widths) * (lengths > 0))
            writer.array(bits.variable_bits(rest, widths))


def _shape_of(
    others: np.ndarray, mantissa: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bit lengths, their steps, the bits written of each and those not."""
    lengths = bit_length(others)
    changes = lengths.copy()
    changes[1:] -= lengths[:-1]
    widths = np.minimum(np.maximum(lengths - 1, 0), mantissa)
    below = np.maximum(lengths - 1 - widths, 0)
    return lengths, zigzag(changes), widths, below


def bit_length(values: np.ndarray) -> np.ndarray:
    """The bit lengths of integers in 0..4096 or so; int32."""
    # frexp's exponent is the bit length; frequencies are exact as floats.
    return np.frexp(values.astype(np.float32))[1]


def parametric(
    row: int, frequencies: np.ndarray, zero: int = 0, shift: int = 0
) -> Table:
    """A table of the family, as it is written.

    Args:
        row: Integer, a row of `class_rans_family.family()`.
        frequencies: int64 array, what `family_frequencies` says.
        zero: Integer, the frequency of the centre, or 0.
        shift: Integer in -64..63, how far off the centre is.

    Returns:
        The table.
    """
    fields = [(_SHIFTED if shift else _PARAMETRIC, 2)]
    if zero:
        fields = [(_WITH_ZERO, 2), (zero, PRECISION)]
    fields.append((row, 10))
    if shift:
        fields.append((shift + MOST_SHIFT, 7))
    size = sum(width for _, width in fields)
    return Table(frequencies, size, tuple(fields))


def explicit(
    frequencies: np.ndarray, size: int, mode: int, mantissa: int
) -> Table:
    """A table that is written out.

    Args:
        frequencies: int64 array that adds up to 4096.
        size: Integer. How many bits it takes.
        mode: Integer, the token that has what others leave.
        mantissa: Integer in 0..11, how exact the others are.

    Returns:
        The table.
    """
    width = (len(frequencies) - 1).bit_length()
    fields = (EXPLICIT, 2), (mantissa, 4), (mode, width)
    return Table(frequencies, size, fields, mantissa)


def family_frequencies(
    alphabet: Alphabet, rows: np.ndarray, zeros: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """The frequencies of tables of the family.

    Args:
        alphabet: `Alphabet`.
        rows: int64 array, rows of `class_rans_family.family()`.
        zeros: int64 array, the frequency of each centre, 0 where it has none
            of its own.
        shifts: int64 array, how far off each centre is; 0 with a zero.

    Returns:
        int64 array of shape `(tables, tokens)`; something is negative in rows
        that are no tables.
    """
    family, totals = class_rans_family.family(), class_rans_family.totals()
    each = np.arange(len(rows))
    centers = alphabet.center + shifts
    distances = np.abs(np.arange(alphabet.plain) - centers[:, None])
    distances = np.minimum(distances, class_rans_family.DISTANCES - 1)
    shares = np.zeros((len(rows), alphabet.tokens), np.int64)
    shares[:, : alphabet.plain] = family[rows[:, None], distances]
    split = zeros > 0
    shares[each[split], centers[split]] = 0
    if alphabet.escape:
        left = totals[rows] - np.where(split, family[rows, 0], 0)
        shares[:, -1] = np.maximum(left - shares.sum(1), 0)
    whole = shares.sum(1)
    room = TOTAL - zeros
    # A share is below 2**35 and the room at most 2**12.
    out: np.ndarray = shares * room[:, None] + (whole // 2)[:, None]
    out //= np.maximum(whole, 1)[:, None]
    if alphabet.escape:
        np.maximum(out[:, -1], 1, out=out[:, -1])
    out[each, out.argmax(1)] += room - out.sum(1)
    out[each[split], centers[split]] += zeros[split]
    out[whole == 0] = -1
    return out


def read_tables(
    reader: BitReader, count: int, alphabet: Alphabet
) -> np.ndarray:
    """Reads the frequencies of tables.

    Args:
        reader: BitReader at the first bit of the first table.
        count: Integer. How many there are.
        alphabet: `Alphabet`.

    Returns:
        int64 array of shape `(count, tokens)`; each row adds up to 4096,
        nothing negative.

    Raises:
        CorruptArtifactError: If the bits are no such tables.
    """
    out = np.empty((count, alphabet.tokens), np.int64)
    named = []
    for index in range(count):
        kind = reader.field(2)
        if kind == EXPLICIT:
            out[index] = _read_explicit(reader, alphabet)
            continue
        zero = reader.field(PRECISION) if kind == _WITH_ZERO else 0
        if kind == _WITH_ZERO and not zero:
            raise reader.cursor.fail("a frequency of the centre", zero)
        row = reader.field(10)
        shift = reader.field(7) - MOST_SHIFT if kind == _SHIFTED else 0
        named.append((index, row, zero, shift))
    if named:
        indices, *numbers = np.array(named, np.int64).T
        out[indices] = family_frequencies(alphabet, *numbers)
        if out.min() < 0:
            raise reader.cursor.fail("distributions", named[0][1:])
    return out


def _read_explicit(reader: BitReader, alphabet: Alphabet) -> np.ndarray:
    mantissa = reader.field(4)
    mode = reader.field((alphabet.tokens - 1).bit_length())
    steps = reader.unary(alphabet.tokens - 1, 2 * PRECISION + 1)
    lengths = np.cumsum(unzigzag(steps))
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > PRECISION:
        raise reader.cursor.fail("frequencies of at most 12 bits", "others")
    widths = np.clip(lengths - 1, 0, mantissa)
    below = np.maximum(lengths - 1 - widths, 0)
    rest = reader.variable(widths) + (1 << widths) * (lengths > 0)
    others = rest << below
    share = TOTAL - int(others.sum())
    if share < 1 or mode >= alphabet.tokens:
        raise reader.cursor.fail("frequencies that leave the mode one", share)
    return np.concatenate([others[:mode], [share], others[mode:]])


def code_bits(counts: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The ideal code length of tokens with these counts; maybe infinite.

    Args:
        counts: int64 array of shape `(tables, tokens)`.
        frequencies: int64 array of that shape.

    Returns:
        float64 array, one length a table.
    """
    lengths = CODE_LENGTHS.take(frequencies, mode="clip")
    out = np.zeros(counts.shape)
    np.multiply(counts, lengths, out=out, where=counts > 0)
    total: np.ndarray = out.sum(1)
    return total


def expand(frequencies: np.ndarray) -> np.ndarray:
    """Turns tables into what decoders look up, one entry a slot.

    Args:
        frequencies: int64 array of shape `(tables, tokens)`.

    Returns:
        uint32 array of shape `(tables * 4096,)`: the token in the lowest 8
        bits, then the frequency minus 1 and the slot's place among the
        token's, 12 bits each.
    """
    tables, tokens = frequencies.shape
    kernel = native.function("ks_class_rans_expand", None, _EXPAND_ARGUMENTS)
    if kernel is not None:
        flat = np.ascontiguousarray(frequencies, np.int64)
        out = np.empty(tables * TOTAL, np.uint32)
        kernel(flat.ctypes.data, tables, tokens, out.ctypes.data)
        return out
    return expand_reference(frequencies)


def expand_reference(frequencies: np.ndarray) -> np.ndarray:
    """`expand` in NumPy."""
    flat = frequencies.reshape(-1)
    starts = np.cumsum(flat) - flat
    tokens = np.tile(np.arange(frequencies.shape[1]), frequencies.shape[0])
    fixed = tokens + ((flat - 1) << 8) - (starts << 20)
    slots: np.ndarray = np.repeat(fixed, flat) + (np.arange(flat.sum()) << 20)
    return slots.astype(np.uint32)
