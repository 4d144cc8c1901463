"""Frequency tables of the rANS coder: fitting, writing, reading.

A table gives each symbol `0..span-1` a frequency; frequencies add up to
`2**precision`. The most frequent symbol, the *mode*, is not written: what the
others leave over is its share. Layout, in bits, most significant first:

- for each symbol but the mode, in order, the bit length of its frequency
  (0: the symbol does not occur) as the difference to the one before it
  (starting from 0), zigzag mapped, in unary: that many zeros and a one;
- for each symbol that occurs but the mode, in order, its frequency below the
  leading one, in bit length - 1 bits;
- zero bits up to the next whole byte.

References:
    - Duda, [Asymmetric numeral systems](https://arxiv.org/abs/1311.2540),
      2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import bits
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.logarithms import log2_of, log2_steps

MAX_PRECISION = 16
MAX_SPAN = 4096
_MIN_PRECISION = 4


@dataclass(frozen=True, slots=True, eq=False)
class FrequencyTable:
    """Frequencies that add up to `2**precision`.

    Args:
        precision: Integer in 1..16.
        frequencies: int64 array, one entry a symbol, 0 for absent ones.
    """

    precision: int
    frequencies: np.ndarray

    @property
    def mode(self) -> int:
        """The symbol with the greatest frequency."""
        return int(self.frequencies.argmax())


def max_precision(count: int) -> int:
    """The finest table the format allows a tensor of `count` elements.

    A table is expanded to `2**precision` entries to decode, so a tiny tensor
    must not be able to ask for a large one.
    """
    return min(MAX_PRECISION, max(8, (4 * count).bit_length() - 1))


def fit(counts: np.ndarray) -> FrequencyTable:
    """The table that makes payload and table together smallest.

    Args:
        counts: int64 array, how often each symbol occurs; two or more do.

    Returns:
        The table.
    """
    total, present = int(counts.sum()), int(np.count_nonzero(counts))
    least = max(_MIN_PRECISION, (present - 1).bit_length())
    most = max(least, max_precision(total))
    tables = [
        FrequencyTable(precision, normalize(counts, precision))
        for precision in sorted({*range(least, most + 1, 2), most})
    ]
    return min(tables, key=lambda t: payload_bits(counts, t) + table_bits(t))


def normalize(counts: np.ndarray, precision: int) -> np.ndarray:
    """Rounds counts to frequencies with the shortest code for those counts.

    The code length is a separable convex function of the frequencies, so
    moving single units while that helps ends in the optimum.

    Args:
        counts: int64 array, at most `2**precision` of them not zero.
        precision: Integer.

    Returns:
        int64 array that adds up to `2**precision`, at least 1 wherever
        `counts` is.
    """
    total = 1 << precision
    present = counts > 0
    weights = counts[present].astype(np.float64)
    exact = weights * (total / weights.sum())
    frequencies = np.maximum(1, np.rint(exact)).astype(np.int64)
    _spread(frequencies, weights, total - int(frequencies.sum()))
    out = np.zeros(counts.size, np.int64)
    out[present] = frequencies
    return out


def _spread(f: np.ndarray, weights: np.ndarray, missing: int) -> None:
    gain = _saving(weights, f)
    loss = _saving(weights, f - 1)

    def move(index: int, step: int) -> None:
        f[index] += step
        at = slice(index, index + 1)
        gain[at] = _saving(weights[at], f[at])
        loss[at] = _saving(weights[at], f[at] - 1)

    for _ in range(missing):
        move(int(gain.argmax()), 1)
    for _ in range(-missing):
        move(int(loss.argmin()), -1)
    while True:
        up, down = int(gain.argmax()), int(loss.argmin())
        if up == down or gain[up] <= loss[down] * (1 + 1e-9):
            return
        move(up, 1)
        move(down, -1)


def _saving(weights: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Bits saved by raising the frequencies `f` by one; infinite from 0."""
    out: np.ndarray = weights * log2_steps()[f]
    return out


def payload_bits(counts: np.ndarray, table: FrequencyTable) -> float:
    """The ideal code length in bits of data with these counts."""
    used = counts > 0
    lengths = table.precision - log2_of(table.frequencies[used])
    return float((counts[used] * lengths).sum())


def table_bits(table: FrequencyTable) -> int:
    """The exact number of bits that `write` needs before padding."""
    lengths, _ = _lengths_without_mode(table)
    unary = _zigzag(np.diff(lengths, prepend=0)) + 1
    return int(unary.sum() + np.maximum(lengths - 1, 0).sum())


def write(table: FrequencyTable) -> bytes:
    """The table as bytes; precision, span and mode are written elsewhere."""
    lengths, others = _lengths_without_mode(table)
    steps = bits.unary_bits(_zigzag(np.diff(lengths, prepend=0)))
    widths = np.maximum(lengths - 1, 0)
    rest = bits.variable_bits(others - (1 << widths) * (lengths > 0), widths)
    return np.packbits(np.concatenate([steps, rest])).tobytes()


def read(
    cursor: ByteCursor, precision: int, span: int, mode: int
) -> FrequencyTable:
    """Reads what `write` wrote.

    Args:
        cursor: ByteCursor at the first byte of the table.
        precision: Integer, the logarithm of the sum of the frequencies.
        span: Integer, how many symbols there are.
        mode: Integer below `span`.

    Returns:
        The table, its sum as promised and the mode's frequency at least 1.

    Raises:
        CorruptArtifactError: If the bits are no such table.
    """
    # Unary runs end within 2 * precision + 1 bits each: look no further.
    longest = (span - 1) * (3 * precision + 1) // 8 + 1
    window = cursor.data[cursor.position : cursor.position + longest]
    unpacked = np.unpackbits(np.frombuffer(window, np.uint8))
    steps = bits.read_unary(unpacked, span - 1)
    if steps is None:
        raise cursor.fail(f"{span - 1} frequencies", "fewer")
    lengths = np.cumsum(_unzigzag(steps))
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > precision:
        raise cursor.fail(
            f"frequencies of at most {precision} bits", lengths.max()
        )
    widths = np.maximum(lengths - 1, 0)
    start = int(steps.sum()) + span - 1
    total = start + int(widths.sum())
    packed = cursor.take((total + 7) // 8)
    if not bits.padding_is_zero(packed, total):
        raise cursor.fail("zero bits after the table", packed[-1])
    others = bits.read_variable(unpacked[start:], widths)
    others += (1 << widths) * (lengths > 0)
    share = (1 << precision) - int(others.sum())
    if share < 1 or share < others.max(initial=0):
        raise cursor.fail("frequencies that leave the mode most", share)
    return FrequencyTable(precision, np.insert(others, mode, share))


def _lengths_without_mode(
    table: FrequencyTable,
) -> tuple[np.ndarray, np.ndarray]:
    others = np.delete(table.frequencies, table.mode)
    # frexp's exponent is the bit length; frequencies are exact as floats.
    return np.frexp(others.astype(np.float64))[1].astype(np.int64), others


def _zigzag(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0, -2 * values - 1, 2 * values)


def _unzigzag(values: np.ndarray) -> np.ndarray:
    return np.where(values & 1, -(values + 1 >> 1), values >> 1)
