"""Finding the shortest description of the tables of `class_rans`.

Only the encoder comes here; floats decide sizes, never validity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import class_rans_family
from keras_squeeze.codecs.class_rans_explicit import (
    ExplicitTables,
    least_bits,
)
from keras_squeeze.codecs.class_rans_table import (
    PRECISION,
    TOTAL,
    Alphabet,
    Table,
    code_bits,
    family_frequencies,
    parametric,
)

_ESCAPED_TOKEN_BITS = 8.0
_MANTISSAS = ((1, 2, 3, 11), (0, 1, 2, 3))
_FEW_TOKENS = 40
_SHIFTS = 64
_PARAMETRIC_BITS, _WITH_ZERO_BITS, _SHIFTED_BITS = 12, 24, 19


@dataclass(frozen=True, slots=True, eq=False)
class FittedTables:
    """Tables of one alphabet.

    Args:
        alphabet: `Alphabet`.
        tables: List of `Table`.
        bits: Float. What tables and payload take, escapes estimated.
    """

    alphabet: Alphabet
    tables: list[Table]
    bits: float

    @property
    def frequencies(self) -> np.ndarray:
        """int64 array of shape `(tables, tokens)`."""
        return np.array([table.frequencies for table in self.tables])


def fit_tables(histogram: np.ndarray, alphabet: Alphabet) -> FittedTables:
    """The best tables, one for each row of counts.

    Args:
        histogram: int64 array of shape `(tables, tokens)`.
        alphabet: `Alphabet`. With an escape, the last column counts what has
            no token of its own.

    Returns:
        `FittedTables`.
    """
    found = _parametric_tables(histogram, alphabet)
    numbers, frequencies, bits = found
    if alphabet.escape:
        counts, extra = _without_rare(histogram)
    else:
        counts, extra = histogram, np.zeros(len(histogram))
    # Most explicit tables are too long, whatever they say.
    tried = np.flatnonzero(histogram.any(1))
    least = least_bits(counts[tried]) + extra[tried]
    tried = tried[least < bits[tried]]
    mantissas = _MANTISSAS[alphabet.tokens > _FEW_TOKENS]
    explicit = ExplicitTables(counts[tried], mantissas)
    explicit_bits = np.full(len(bits), np.inf)
    explicit_bits[tried] = explicit.bits + extra[tried]
    place = np.zeros(len(bits), np.int64)
    place[tried] = np.arange(tried.size)
    tables = [
        explicit.table(int(place[i]))
        if explicit_bits[i] < bits[i]
        else parametric(row, frequencies[i], zero, shift)
        for i, (row, zero, shift) in enumerate(numbers)
    ]
    total = float(np.minimum(bits, explicit_bits).sum())
    return FittedTables(alphabet, tables, total)


def _without_rare(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts with rare tokens escaped, and the bits that escapes take."""
    counts = histogram.copy()
    sums = counts.sum(1, keepdims=True)
    rare = (counts < 2) | (counts * (2 * TOTAL) < sums)
    rare[:, -1] = False
    escaped = np.where(rare, counts, 0).sum(1)
    counts[rare] = 0
    counts[:, -1] = np.maximum(counts[:, -1] + escaped, 1)
    return counts, escaped * _ESCAPED_TOKEN_BITS


def _family_bits(
    counts: np.ndarray, frequencies: np.ndarray, alphabet: Alphabet
) -> np.ndarray:
    """What the payload takes, tokens without a frequency escaped."""
    extra = np.zeros(len(counts))
    if alphabet.escape:
        missing = frequencies == 0
        missing[:, -1] = False
        escaped = np.where(missing, counts, 0).sum(1)
        counts = np.where(missing, 0, counts)
        counts[:, -1] += escaped
        extra = escaped * _ESCAPED_TOKEN_BITS
    bits = code_bits(counts, frequencies) + extra
    bits[frequencies.min(1) < 0] = np.inf
    return bits


def _parametric_tables(
    histogram: np.ndarray, alphabet: Alphabet
) -> tuple[list[tuple[int, int, int]], np.ndarray, np.ndarray]:
    """For each row of counts the best table that numbers describe.

    Returns:
        Of each table the row of the family, the frequency of the centre and
        the shift; the frequencies; and the bits they and the payload take.
    """
    plain = histogram[:, : alphabet.plain].astype(np.float64)
    totals = np.maximum(plain.sum(1), 1e-9)
    means = (plain * np.arange(alphabet.plain)).sum(1) / totals
    centers = np.where(plain.any(1), np.rint(means), alphabet.center)
    usual = np.full(len(plain), alphabet.center)
    whole, nonzero = class_rans_family.code_lengths()
    around_usual = _fold(plain, usual)
    shifts = np.clip(centers - alphabet.center, -_SHIFTS, _SHIFTS - 1)
    shifts = shifts.astype(np.int64)
    share = plain[:, alphabet.center] / totals
    zeros = np.clip(np.rint(share * TOTAL), 1, TOTAL - 1).astype(np.int64)
    none = np.zeros(len(plain), np.int64)
    tried = [
        (_best_rows(around_usual, whole), none, none, _PARAMETRIC_BITS),
        (_best_rows(around_usual, nonzero), zeros, none, _WITH_ZERO_BITS),
    ]
    if shifts.any():
        rows = _best_rows(_fold(plain, usual + shifts), whole)
        tried.append((rows, none, shifts, _SHIFTED_BITS))
    frequencies, bits = [], []
    for rows, zero, shift, size in tried:
        frequencies.append(family_frequencies(alphabet, rows, zero, shift))
        bits.append(size + _family_bits(histogram, frequencies[-1], alphabet))
    best = np.argmin(bits, 0)
    each = np.arange(len(plain))
    numbers = [
        (int(tried[k][0][i]), int(tried[k][1][i]), int(tried[k][2][i]))
        for i, k in enumerate(best.tolist())
    ]
    return numbers, np.array(frequencies)[best, each], np.min(bits, 0)


def _fold(plain: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Counts by distance to a centre of their own; float32."""
    size = class_rans_family.DISTANCES
    columns = np.arange(plain.shape[1])
    distances = np.abs(columns - centers[:, None]).astype(np.int64)
    cells = np.minimum(distances, size - 1)
    cells = cells + np.arange(len(plain))[:, None] * size
    folded = np.bincount(
        cells.reshape(-1), plain.reshape(-1), len(plain) * size
    )
    return folded.reshape(len(plain), size).astype(np.float32)


def _best_rows(folded: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """For each row of counts the best of the family."""
    reach = int(np.flatnonzero(folded.any(0)).max(initial=0)) + 1
    bits = class_rans_family.expected_bits(folded[:, :reach], lengths)
    out: np.ndarray = bits.argmin(1)
    return out


def has_rare_tokens(histogram: np.ndarray) -> bool:
    """Whether leaving tokens out of tables might pay."""
    totals = histogram.sum(1, keepdims=True)
    rare = (histogram < 3) | (histogram << PRECISION < totals)
    return bool((rare & (histogram > 0)).any()) or len(histogram) > 1
