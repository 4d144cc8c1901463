"""Finding the shortest description of the tables of `class_rans`.

Only the encoder comes here; floats decide sizes, never validity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import class_rans_family
from keras_squeeze.codecs.class_rans_table import (
    PRECISION,
    TOTAL,
    Alphabet,
    Table,
    explicit,
    parametric,
    payload_bits,
)

_ESCAPED_TOKEN_BITS = 8.0
_MANTISSAS = ((1, 2, 3, 11), (0, 1, 2, 3))
_FEW_TOKENS = 40
_SHIFTS = 64
_COARSE = 4


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
    families = _parametric_tables(histogram, alphabet)
    tables, total = [], 0.0
    for counts, candidates in zip(histogram, families, strict=True):
        found = list(candidates)
        if np.count_nonzero(counts):
            found += _explicit_tables(counts, alphabet)
        priced = [(_price(counts, t, alphabet), t) for t in found]
        price, table = min(priced, key=lambda pair: pair[0])
        tables.append(table)
        total += price
    return FittedTables(alphabet, tables, total)


def _price(counts: np.ndarray, table: Table, alphabet: Alphabet) -> float:
    if not alphabet.escape:
        return table.size + payload_bits(counts, table.frequencies)
    missing = table.frequencies[:-1] == 0
    escaped = int(counts[:-1][missing].sum())
    actual = counts.copy()
    actual[:-1][missing] = 0
    actual[-1] += escaped
    bits = payload_bits(actual, table.frequencies)
    return table.size + bits + escaped * _ESCAPED_TOKEN_BITS


def _explicit_tables(counts: np.ndarray, alphabet: Alphabet) -> list[Table]:
    if alphabet.escape:
        counts = counts.copy()
        rare = (counts < 2) | (counts * (2 * TOTAL) < counts.sum())
        rare[-1] = False
        counts[-1] = max(int(counts[-1] + counts[rare].sum()), 1)
        counts[rare] = 0
    return explicit(counts, _MANTISSAS[counts.size > _FEW_TOKENS])


def _parametric_tables(
    histogram: np.ndarray, alphabet: Alphabet
) -> list[list[Table]]:
    """For each row of counts the best tables that numbers describe."""
    plain = histogram[:, : alphabet.plain].astype(np.float64)
    totals = np.maximum(plain.sum(1), 1e-9)
    means = (plain * np.arange(alphabet.plain)).sum(1) / totals
    centers = np.where(plain.any(1), np.rint(means), alphabet.center)
    usual = np.full(len(plain), alphabet.center)
    whole, nonzero = class_rans_family.code_lengths()
    around_usual = _fold(plain, usual)
    rows = _best_rows(around_usual, whole)
    rows_with_zero = _best_rows(around_usual, nonzero)
    shifts = np.clip(centers - alphabet.center, -_SHIFTS, _SHIFTS - 1)
    rows_shifted = _best_rows(_fold(plain, usual + shifts), whole)
    out = []
    for i, counts in enumerate(plain):
        share = counts[alphabet.center] / totals[i]
        zero = min(max(round(share * TOTAL), 1), TOTAL - 1)
        shift = int(shifts[i])
        found = [
            parametric(alphabet, int(rows[i])),
            parametric(alphabet, int(rows_with_zero[i]), zero),
            parametric(alphabet, int(rows_shifted[i]), None, shift)
            if shift
            else None,
        ]
        out.append([table for table in found if table is not None])
    return out


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
    """For each row of counts the best of the family: coarse, then finer."""
    shapes = class_rans_family.SHAPES
    reach = int(np.flatnonzero(folded.any(0)).max(initial=0)) + 1
    folded, lengths = folded[:, :reach], lengths[:, :reach]
    grid = lengths.reshape(-1, shapes, reach)
    coarse = grid[::_COARSE, ::3].reshape(-1, reach)
    scales = (folded @ coarse.T).argmin(1) // 3 * _COARSE
    out = np.zeros(len(folded), np.int64)
    for i, scale in enumerate(scales.tolist()):
        low = max(scale - _COARSE, 0) * shapes
        near = lengths[low : (scale + _COARSE + 1) * shapes]
        out[i] = low + int((near @ folded[i]).argmin())
    return out


def has_rare_tokens(histogram: np.ndarray) -> bool:
    """Whether leaving tokens out of tables might pay."""
    totals = histogram.sum(1, keepdims=True)
    rare = (histogram < 3) | (histogram << PRECISION < totals)
    return bool((rare & (histogram > 0)).any()) or len(histogram) > 1
