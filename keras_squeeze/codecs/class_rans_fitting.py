"""Finding the shortest description of the tables of `class_rans`.

Only the encoder comes here: it decides sizes, never validity. Lengths are
multiples of `2**-16` bits, so that sums are exact; see `logarithms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import class_rans_family, class_rans_native
from keras_squeeze.codecs.class_rans_explicit import fit_explicit
from keras_squeeze.codecs.class_rans_native_fit import (
    native_fit,
    native_moments,
)
from keras_squeeze.codecs.class_rans_table import (
    ESCAPED_TOKEN_BITS,
    MOST_SHIFT,
    PRECISION,
    TOTAL,
    Alphabet,
    Table,
    code_bits,
    explicit,
    family_frequencies,
    parametric,
)

_MANTISSAS = ((1, 2, 3, 11), (0, 1, 2, 3))
_FEW_TOKENS = 40
_PARAMETRIC_BITS, _WITH_ZERO_BITS, _SHIFTED_BITS = 12, 24, 19


@dataclass(frozen=True, slots=True, eq=False)
class FittedTables:
    """Tables of one alphabet.

    Args:
        alphabet: `Alphabet`.
        bits: Float. What tables and payload take, escapes estimated.
        frequencies: int64 array of shape `(tables, tokens)`.
        named: int64 array of shape `(3, tables)`: of parametric tables the
            row of the family, the frequency of the centre and the shift.
        written: int64 array of shape `(3, tables)`: of explicit tables the
            size in bits, the mode and the mantissa; -1 of others.
    """

    alphabet: Alphabet
    bits: float
    frequencies: np.ndarray
    named: np.ndarray
    written: np.ndarray

    @property
    def tables(self) -> list[Table]:
        """The tables as they are written."""
        columns = zip(
            self.frequencies,
            self.named.T.tolist(),
            self.written.T.tolist(),
            strict=True,
        )
        return [
            parametric(row, frequencies, zero, shift)
            if mantissa < 0
            else explicit(frequencies, size, mode, mantissa)
            for frequencies, (row, zero, shift), (size, mode, mantissa) in (
                columns
            )
        ]


@dataclass(frozen=True, slots=True, eq=False)
class NamedTables:
    """Tables that numbers describe, to choose from for each row of counts.

    Args:
        sizes: Tuple of integers, how many bits each candidate takes.
        numbers: int64 array of shape `(3, candidates, tables)`: rows of the
            family, frequencies of the centre or 0, and how far the centre is
            off.
    """

    sizes: tuple[int, ...]
    numbers: np.ndarray


def fit_tables(
    histogram: np.ndarray, alphabet: Alphabet, named: NamedTables | None = None
) -> FittedTables:
    """The best tables, one for each row of counts.

    Args:
        histogram: int64 array of shape `(tables, tokens)`.
        alphabet: `Alphabet`. With an escape, the last column counts what has
            no token of its own.
        named: Optional `NamedTables` of these counts, which do not depend on
            whether there is an escape. Defaults to `None`.

    Returns:
        `FittedTables`.
    """
    if named is None:
        named = name_tables(histogram, alphabet)
    mantissas = _MANTISSAS[alphabet.tokens > _FEW_TOKENS]
    fit = native_fit if class_rans_native.available() else _fit
    frequencies, bits, best, written = fit(
        histogram, alphabet, named, mantissas
    )
    numbers = named.numbers[:, best, np.arange(len(best))]
    return FittedTables(
        alphabet, float(bits.sum()), frequencies, numbers, written
    )


def _fit(
    histogram: np.ndarray,
    alphabet: Alphabet,
    named: NamedTables,
    mantissas: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    frequencies, bits, best = best_named(histogram, alphabet, named)
    written = fit_explicit(histogram, alphabet, mantissas, frequencies, bits)
    return frequencies, bits, best, written


def name_tables(histogram: np.ndarray, alphabet: Alphabet) -> NamedTables:
    """The candidates among the tables that numbers describe.

    Args:
        histogram: int64 array of shape `(tables, tokens)`.
        alphabet: `Alphabet`.

    Returns:
        `NamedTables`.
    """
    look = native_moments if class_rans_native.available() else moments
    usual, moved, zeros, shifts = look(histogram, alphabet)
    whole, nonzero = class_rans_family.code_lengths()
    none = np.zeros(len(histogram), np.int64)
    sizes = [_PARAMETRIC_BITS, _WITH_ZERO_BITS]
    found = [(_best_rows(usual, whole), none, none)]
    found.append((_best_rows(usual, nonzero), zeros, none))
    if shifts.any():
        sizes.append(_SHIFTED_BITS)
        found.append((_best_rows(moved, whole), none, shifts))
    numbers = np.array(list(zip(*found, strict=True)), np.int64)
    return NamedTables(tuple(sizes), numbers)


def moments(
    histogram: np.ndarray, alphabet: Alphabet
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What parametric tables of rows of counts are to be like.

    Args:
        histogram: int64 array of shape `(tables, tokens)`.
        alphabet: `Alphabet`.

    Returns:
        Counts by distance to the usual centre and to that of the mean,
        float64 of shape `(tables, distances)`; the share of the usual centre
        as a frequency, int64; and how far the mean is off, int64.
    """
    plain = histogram[:, : alphabet.plain].astype(np.float64)
    totals = np.maximum(plain.sum(1), 1e-9)
    means = (plain * np.arange(alphabet.plain)).sum(1) / totals
    centers = np.where(plain.any(1), np.rint(means), alphabet.center)
    usual = np.full(len(plain), alphabet.center)
    shifts = np.clip(centers - alphabet.center, -MOST_SHIFT, MOST_SHIFT - 1)
    shifts = shifts.astype(np.int64)
    share = plain[:, alphabet.center] / totals
    zeros = np.clip(np.rint(share * TOTAL), 1, TOTAL - 1).astype(np.int64)
    return _fold(plain, usual), _fold(plain, usual + shifts), zeros, shifts


def best_named(
    histogram: np.ndarray, alphabet: Alphabet, named: NamedTables
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of counts the best of the candidates.

    Args:
        histogram: int64 array of shape `(tables, tokens)`.
        alphabet: `Alphabet`.
        named: `NamedTables`.

    Returns:
        The frequencies, int64 of shape `(tables, tokens)`; the bits that
        table and payload take, float64; and which candidate it is, int64.
    """
    frequencies, bits = [], []
    for size, *numbers in zip(named.sizes, *named.numbers, strict=True):
        frequencies.append(family_frequencies(alphabet, *numbers))
        bits.append(size + _payload_bits(histogram, frequencies[-1], alphabet))
    best = np.argmin(bits, 0)
    rows = np.arange(len(histogram))
    return np.array(frequencies)[best, rows], np.min(bits, 0), best


def _payload_bits(
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
        extra = escaped * ESCAPED_TOKEN_BITS
    bits = code_bits(counts, frequencies) + extra
    bits[frequencies.min(1) < 0] = np.inf
    return bits


def _fold(plain: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Counts by distance to a centre of their own; float64."""
    size = class_rans_family.DISTANCES
    columns = np.arange(plain.shape[1])
    distances = np.abs(columns - centers[:, None]).astype(np.int64)
    cells = np.minimum(distances, size - 1)
    cells = cells + np.arange(len(plain))[:, None] * size
    folded = np.bincount(
        cells.reshape(-1), plain.reshape(-1), len(plain) * size
    )
    folded = folded.reshape(len(plain), size)
    reach = int(np.flatnonzero(folded.any(0)).max(initial=0)) + 1
    return folded[:, :reach]


def _best_rows(folded: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """For each row of counts the best of the family."""
    bits = class_rans_family.expected_bits(folded, lengths)
    out: np.ndarray = bits.argmin(1)
    return out


def has_rare_tokens(histogram: np.ndarray) -> bool:
    """Whether leaving tokens out of tables might pay."""
    if len(histogram) > 1:
        return True
    totals = histogram.sum(1, keepdims=True)
    rare = (histogram < 3) | (histogram << PRECISION < totals)
    return bool((rare & (histogram > 0)).any())
