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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import bits, class_rans_family, rans_table
from keras_squeeze.codecs.class_rans_bits import (
    BitReader,
    BitWriter,
    unzigzag,
    zigzag,
)

PRECISION = 12
TOTAL = 1 << PRECISION

_EXPLICIT, _PARAMETRIC, _WITH_ZERO, _SHIFTED = range(4)
_SHIFT_OFFSET = 64
_STRETCHES = np.linspace(0.86, 1.14, 29)[:, None]
# For estimates only.
_CODE_LENGTHS = np.concatenate(
    [[np.inf], PRECISION - np.log2(np.arange(1, TOTAL + 1))]
)


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


def explicit(counts: np.ndarray, mantissas: Sequence[int]) -> list[Table]:
    """Fits explicit tables.

    Args:
        counts: int64 array, how often each token occurs.
        mantissas: Sequence of integers in 0..15, how exact to be.

    Returns:
        A table for each of `mantissas` that leaves the mode anything.
    """
    exact = rans_table.normalize(counts, PRECISION)
    tables = [_rounded(exact, mantissa) for mantissa in mantissas]
    return [table for table in tables if table is not None]


def _rounded(exact: np.ndarray, mantissa: int) -> Table | None:
    mode = int(exact.argmax())
    frequencies = _truncated(exact, mantissa)
    frequencies[:, mode] = 0
    shares = TOTAL - frequencies.sum(1)
    if shares.max() < 1:
        return None
    # Rounding errors add up in the mode's share: take what comes closest.
    misfit = np.abs(np.log2(np.maximum(shares, 1e-3) / exact[mode]))
    best = int(misfit.argmin())
    frequencies = frequencies[best]
    frequencies[mode] = shares[best]
    others = np.delete(frequencies, mode)
    _, steps, widths, _ = _shape_of(others, mantissa)
    mode_width = (exact.size - 1).bit_length()
    fields = ((_EXPLICIT, 2), (mantissa, 4), (mode, mode_width))
    size = 6 + mode_width + int(steps.sum() + widths.sum()) + steps.size
    return Table(frequencies, size, fields, mantissa)


def _truncated(exact: np.ndarray, mantissa: int) -> np.ndarray:
    """Frequencies to so many bits after the leading one.

    Each row after stretching all of them by another factor near 1.
    """
    if mantissa >= PRECISION - 1:
        return exact[None].copy()
    scaled = np.rint(exact * _STRETCHES).astype(np.int64)
    scaled = np.where(exact > 0, np.maximum(scaled, 1), 0)
    drop = np.maximum(_bit_length(scaled) - 1 - mantissa, 0)
    rounded: np.ndarray = (scaled + ((1 << drop) >> 1)) >> drop << drop
    return rounded


def _shape_of(
    others: np.ndarray, mantissa: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bit lengths, their steps, the bits written of each and those not."""
    lengths = _bit_length(others)
    changes = lengths.copy()
    changes[1:] -= lengths[:-1]
    widths = np.minimum(np.maximum(lengths - 1, 0), mantissa)
    below = np.maximum(lengths - 1 - widths, 0)
    return lengths, zigzag(changes), widths, below


def _bit_length(values: np.ndarray) -> np.ndarray:
    # frexp's exponent is the bit length; frequencies are exact as floats.
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def parametric(
    alphabet: Alphabet, row: int, zero: int | None = None, shift: int = 0
) -> Table | None:
    """A table of the family; `None` if there is no such table.

    Args:
        alphabet: `Alphabet`.
        row: Integer, a row of `class_rans_family.family()`.
        zero: Optional integer in 1..4095, the frequency of the centre.
        shift: Integer in -64..63, how far off the centre is.

    Returns:
        The table or `None`.
    """
    frequencies = _family_frequencies(alphabet, row, zero, shift)
    if frequencies is None:
        return None
    kind = _SHIFTED if shift else _PARAMETRIC
    fields = [(kind, 2)]
    if zero is not None:
        fields = [(_WITH_ZERO, 2), (zero, PRECISION)]
    fields.append((row, 10))
    if shift:
        fields.append((shift + _SHIFT_OFFSET, 7))
    size = sum(width for _, width in fields)
    return Table(frequencies, size, tuple(fields))


def _family_frequencies(
    alphabet: Alphabet, row: int, zero: int | None, shift: int
) -> np.ndarray | None:
    weights = class_rans_family.family()[row]
    center = alphabet.center + shift
    distances = np.abs(np.arange(alphabet.plain) - center)
    distances = np.minimum(distances, class_rans_family.DISTANCES - 1)
    shares = np.zeros(alphabet.tokens, np.int64)
    shares[: alphabet.plain] = weights[distances]
    total = int(weights[0] + 2 * weights[1:].sum())
    room = TOTAL
    if zero is not None:
        shares[center] = 0
        total -= int(weights[0])
        room -= zero
    if alphabet.escape:
        shares[-1] = max(total - int(shares.sum()), 0)
    whole = int(shares.sum())
    if whole == 0:
        return None
    # A share is below 2**35 and the room at most 2**12.
    out = (shares * room + whole // 2) // whole
    if alphabet.escape:
        out[-1] = max(int(out[-1]), 1)
    out[int(out.argmax())] += room - int(out.sum())
    if zero is not None:
        out[center] += zero
    return None if out.min() < 0 else out


def read_table(reader: BitReader, alphabet: Alphabet) -> np.ndarray:
    """Reads the frequencies of one table.

    Args:
        reader: BitReader at the first bit of the table.
        alphabet: `Alphabet`.

    Returns:
        int64 array that adds up to 4096, nothing negative.

    Raises:
        CorruptArtifactError: If the bits are no such table.
    """
    kind = reader.field(2)
    if kind == _EXPLICIT:
        return _read_explicit(reader, alphabet)
    zero = reader.field(PRECISION) if kind == _WITH_ZERO else None
    row = reader.field(10)
    shift = reader.field(7) - _SHIFT_OFFSET if kind == _SHIFTED else 0
    inside = 0 <= alphabet.center + shift < alphabet.plain or zero is None
    out = None
    if inside and zero != 0:
        out = _family_frequencies(alphabet, row, zero, shift)
    if out is None:
        raise reader.cursor.fail("a distribution", (row, zero, shift))
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
    return np.insert(others, mode, share)


def payload_bits(counts: np.ndarray, frequencies: np.ndarray) -> float:
    """The ideal code length of tokens with these counts; maybe infinite."""
    used = counts > 0
    lengths = _CODE_LENGTHS[frequencies[used]]
    return float(counts[used] @ lengths)


def expand(frequencies: np.ndarray) -> np.ndarray:
    """Turns tables into what decoders look up, one entry a slot.

    Args:
        frequencies: int64 array of shape `(tables, tokens)`.

    Returns:
        uint32 array of shape `(tables * 4096,)`: the token in the lowest 8
        bits, then the frequency minus 1 and the slot's place among the
        token's, 12 bits each.
    """
    flat = frequencies.reshape(-1)
    starts = np.cumsum(flat) - flat
    tokens = np.tile(np.arange(frequencies.shape[1]), frequencies.shape[0])
    fixed = tokens + ((flat - 1) << 8) - (starts << 20)
    slots: np.ndarray = np.repeat(fixed, flat) + (np.arange(flat.sum()) << 20)
    return slots.astype(np.uint32)
