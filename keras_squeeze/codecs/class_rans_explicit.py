"""Fitting explicit tables of `class_rans`, those of all contexts at once.

Only the encoder comes here; floats decide sizes, never validity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_squeeze.codecs.class_rans_bits import zigzag
from keras_squeeze.codecs.class_rans_table import (
    EXPLICIT,
    PRECISION,
    TOTAL,
    Table,
    bit_length,
    code_bits,
)

_FORM_BITS = 6
_STRETCHES = np.linspace(0.86, 1.14, 29, dtype=np.float32)[:, None]
# So many frequencies are rounded together; more would leave the cache.
_TOGETHER = 1 << 17


class ExplicitTables:
    """The best explicit table for each row of counts.

    Args:
        counts: int64 array of shape `(tables, tokens)`, no row all zeros.
        mantissas: Sequence of integers in 0..11, how exact tables may be.

    Attributes:
        bits: float64 array, what each table and its payload take; infinite
            where no mantissa leaves the most frequent token anything.
    """

    def __init__(self, counts: np.ndarray, mantissas: Sequence[int]) -> None:
        self.counts = counts
        rows, tokens = counts.shape
        self.modes = counts.argmax(1)
        self.fixed_bits = _FORM_BITS + (tokens - 1).bit_length()
        self.bits = np.full(rows, np.inf)
        self.sizes = np.zeros(rows, np.int64)
        self.mantissas = np.zeros(rows, np.int64)
        self.frequencies = np.zeros((rows, tokens), np.int64)
        step = max(_TOGETHER // (tokens * len(_STRETCHES)), 1)
        for first in range(0, rows, step):
            part = slice(first, first + step)
            for mantissa in mantissas:
                self._try(part, mantissa)

    def _try(self, part: slice, mantissa: int) -> None:
        counts, modes = self.counts[part], self.modes[part]
        frequencies = _rounded(counts, modes, mantissa)
        sizes = self.fixed_bits + _sizes(frequencies, modes, mantissa)
        bits = sizes + code_bits(counts, frequencies)
        bits[frequencies.min(1) < 0] = np.inf
        better = bits < self.bits[part]
        self.bits[part][better] = bits[better]
        self.sizes[part][better] = sizes[better]
        self.mantissas[part][better] = mantissa
        self.frequencies[part][better] = frequencies[better]

    def table(self, index: int) -> Table:
        """One of the tables."""
        mantissa = int(self.mantissas[index])
        tokens = self.counts.shape[1]
        fields = (
            (EXPLICIT, 2),
            (mantissa, 4),
            (int(self.modes[index]), (tokens - 1).bit_length()),
        )
        size = int(self.sizes[index])
        return Table(self.frequencies[index], size, fields, mantissa)


def least_bits(counts: np.ndarray) -> np.ndarray:
    """What explicit tables and their payload take at least.

    Args:
        counts: int64 array of shape `(tables, tokens)`, no row all zeros.

    Returns:
        float64 array.
    """
    tokens = counts.shape[1]
    sums = counts.sum(1).astype(np.float64)
    logs = np.log2(np.maximum(counts, 1))
    entropy = sums * np.log2(sums) - (counts * logs).sum(1)
    table = _FORM_BITS + (tokens - 1).bit_length() + tokens - 1
    least: np.ndarray = entropy + table
    return least


def _rounded(
    counts: np.ndarray, modes: np.ndarray, mantissa: int
) -> np.ndarray:
    """Frequencies of so many bits after the leading one.

    After stretching all of them by the factor near 1 that leaves the mode
    most nearly what it should have: rounding errors add up there. A row with
    -1 in it has none that leaves anything.
    """
    rows = np.arange(len(counts))
    ideal = (counts * (TOTAL / counts.sum(1, keepdims=True))).astype(np.float32)
    scaled = np.rint(ideal[:, None] * _STRETCHES).astype(np.int32)
    np.maximum(scaled, (counts > 0)[:, None], out=scaled)
    if mantissa < PRECISION - 1:
        drop = np.maximum(bit_length(scaled) - 1 - mantissa, 0)
        scaled += (1 << drop) >> 1
        scaled = scaled >> drop << drop
    scaled[rows, :, modes] = 0
    shares = TOTAL - scaled.sum(2)
    ratio = np.maximum(shares, 1e-3) / ideal[rows, modes][:, None]
    best = np.abs(np.log2(ratio)).argmin(1)
    out: np.ndarray = scaled[rows, best].astype(np.int64)
    share = shares[rows, best]
    out[rows, modes] = np.where(share > 0, share, -1)
    return out


def _sizes(
    frequencies: np.ndarray, modes: np.ndarray, mantissa: int
) -> np.ndarray:
    """The bits of the frequencies of all tokens but the mode; int64."""
    rows = np.arange(len(frequencies))
    lengths = bit_length(frequencies)
    lengths[rows, modes] = 0
    widths = np.minimum(np.maximum(lengths - 1, 0), mantissa).sum(1)
    # The mode is skipped: as if it had the length of the token before.
    before = lengths[rows, np.maximum(modes - 1, 0)]
    lengths[rows, modes] = np.where(modes > 0, before, 0)
    steps = zigzag(np.diff(lengths, axis=1, prepend=0)).sum(1)
    out: np.ndarray = steps + widths + frequencies.shape[1] - 1
    return out
