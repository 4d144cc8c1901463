"""Fitting explicit tables of `class_rans`, those of all contexts at once.

Only the encoder comes here: it decides sizes, never validity. Lengths are
multiples of `2**-16` bits, so that sums are exact; see `logarithms`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_squeeze.codecs.class_rans_bits import zigzag
from keras_squeeze.codecs.class_rans_table import (
    ESCAPED_TOKEN_BITS,
    PRECISION,
    TOTAL,
    Alphabet,
    bit_length,
    code_bits,
)

_FORM_BITS = 6
# Bits a token by which a length may be too short.
_ROUNDING = 1e-5
STRETCHES = np.linspace(0.86, 1.14, 29, dtype=np.float32)[:, None]
# So many frequencies are rounded together; more would leave the cache.
_TOGETHER = 1 << 17


def fit_explicit(
    histogram: np.ndarray,
    alphabet: Alphabet,
    mantissas: Sequence[int],
    frequencies: np.ndarray,
    bits: np.ndarray,
) -> np.ndarray:
    """Puts explicit tables where they take less than what is there.

    Args:
        histogram: int64 array of shape `(tables, tokens)`.
        alphabet: `Alphabet`.
        mantissas: Sequence of integers in 0..11, how exact tables may be.
        frequencies: int64 array of that shape, of the tables that are there;
            overwritten with those of explicit tables.
        bits: float64 array, what these tables and their payload take;
            overwritten likewise.

    Returns:
        int64 array of shape `(3, tables)`: of explicit tables their size in
        bits, the mode and the mantissa; the mantissa of others is -1.
    """
    written = np.zeros((3, len(histogram)), np.int64)
    written[2] = -1
    counts, extra = histogram, np.zeros(len(histogram))
    if alphabet.escape:
        counts, extra = _without_rare(histogram)
    # Most explicit tables are too long, whatever they say.
    tried = np.flatnonzero(histogram.any(1))
    least = _least_bits(counts[tried]) + extra[tried]
    tried = tried[least < bits[tried]]
    step = max(_TOGETHER // (counts.shape[1] * len(STRETCHES)), 1)
    for first in range(0, tried.size, step):
        some = tried[first : first + step]
        modes = counts[some].argmax(1)
        for mantissa in mantissas:
            found = _rounded(counts[some], modes, mantissa)
            sizes = _sizes(found, modes, mantissa)
            new = sizes + code_bits(counts[some], found) + extra[some]
            better = (new < bits[some]) & (found.min(1) >= 0)
            rows = some[better]
            bits[rows], frequencies[rows] = new[better], found[better]
            written[:2, rows] = sizes[better], modes[better]
            written[2, rows] = mantissa
    return written


def _without_rare(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts with rare tokens escaped, and the bits that escapes take."""
    counts = histogram.copy()
    sums = counts.sum(1, keepdims=True)
    rare = (counts < 2) | (counts * (2 * TOTAL) < sums)
    rare[:, -1] = False
    escaped = np.where(rare, counts, 0).sum(1)
    counts[rare] = 0
    counts[:, -1] = np.maximum(counts[:, -1] + escaped, 1)
    return counts, escaped * ESCAPED_TOKEN_BITS


def _least_bits(counts: np.ndarray) -> np.ndarray:
    """What no explicit tables and their payload can be below; float64."""
    tokens = counts.shape[1]
    sums = counts.sum(1).astype(np.float64)
    logs = np.log2(np.maximum(counts, 1))
    entropy = sums * np.log2(sums) - (counts * logs).sum(1)
    # Below it by more than rounding, here and of lengths, may have added.
    least: np.ndarray = entropy - _ROUNDING * sums + tokens - 1
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
    scaled = np.rint(ideal[:, None] * STRETCHES).astype(np.int32)
    np.maximum(scaled, (counts > 0)[:, None], out=scaled)
    if mantissa < PRECISION - 1:
        drop = np.maximum(bit_length(scaled) - 1 - mantissa, 0)
        scaled += (1 << drop) >> 1
        scaled = scaled >> drop << drop
    scaled[rows, :, modes] = 0
    shares = TOTAL - scaled.sum(2)
    wanted = ideal[rows, modes].astype(np.float64)[:, None]
    left = np.maximum(shares, 1e-3)
    best = np.where(left < wanted, wanted / left, left / wanted).argmin(1)
    out: np.ndarray = scaled[rows, best].astype(np.int64)
    share = shares[rows, best]
    out[rows, modes] = np.where(share > 0, share, -1)
    return out


def _sizes(
    frequencies: np.ndarray, modes: np.ndarray, mantissa: int
) -> np.ndarray:
    """The bits of explicit tables; int64."""
    rows, tokens = np.arange(len(frequencies)), frequencies.shape[1]
    lengths = bit_length(frequencies)
    lengths[rows, modes] = 0
    widths = np.minimum(np.maximum(lengths - 1, 0), mantissa).sum(1)
    # The mode is skipped: as if it had the length of the token before.
    before = lengths[rows, np.maximum(modes - 1, 0)]
    lengths[rows, modes] = np.where(modes > 0, before, 0)
    steps = zigzag(np.diff(lengths, axis=1, prepend=0)).sum(1)
    fixed = _FORM_BITS + (tokens - 1).bit_length() + tokens - 1
    out: np.ndarray = steps + widths + fixed
    return out
