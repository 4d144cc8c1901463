"""What tables of `class_rans` and their payload are expected to take.

Only the encoder comes here; floats decide sizes, never validity.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from keras_squeeze import native
from keras_squeeze.codecs import class_rans_family
from keras_squeeze.codecs.class_rans_contexts import MAX_CLASSES, NEIGHBOURS
from keras_squeeze.codecs.class_rans_table import Alphabet

# What a table takes besides its payload, in bits.
_PARAMETRIC_BITS = 12
_WITH_ZERO_BITS = 24
_EXPLICIT_BITS = 14
_EXPLICIT_TOKEN_BITS = 3.4
_ARGUMENTS = (*[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3, ctypes.c_void_p)


def histogram_of(
    tokens: np.ndarray,
    alphabet: Alphabet,
    classes: np.ndarray | None,
    near: np.ndarray | None,
    grids: np.ndarray | None,
) -> np.ndarray:
    """Counts of tokens with each table.

    Args:
        tokens: C-contiguous int16 array.
        alphabet: `Alphabet` of the tokens.
        classes: Optional C-contiguous int16 array of that shape, the scale
            classes.
        near: Optional C-contiguous uint8 array of that shape, the neighbour
            classes.
        grids: Optional C-contiguous uint8 array of that shape, the grids of a
            trellis.

    Returns:
        int64 array of shape `(tables, tokens)`; the greatest table that
        occurs is the last.
    """
    tables = 1 if classes is None else MAX_CLASSES
    tables *= (1 if near is None else NEIGHBOURS) << (grids is not None)
    counts = np.zeros((tables, alphabet.tokens), np.int64)
    kernel = native.function("ks_class_rans_histogram", None, _ARGUMENTS)
    if kernel is not None:
        addresses = [
            None if each is None else each.ctypes.data
            for each in (tokens, classes, near, grids)
        ]
        kernel(*addresses, tokens.size, *counts.shape, counts.ctypes.data)
    else:
        _count(tokens, classes, near, grids, counts)
    last = int(np.flatnonzero(counts.any(1))[-1])
    return counts[: last + 1]


def _count(
    tokens: np.ndarray,
    classes: np.ndarray | None,
    near: np.ndarray | None,
    grids: np.ndarray | None,
    counts: np.ndarray,
) -> None:
    """`ks_class_rans_histogram` in NumPy."""
    joint = np.zeros(tokens.shape, np.int32)
    if classes is not None:
        joint += classes
    if near is not None:
        joint = joint * NEIGHBOURS + near
    if grids is not None:
        joint = joint * 2 + grids
    joint = (joint * counts.shape[1] + tokens).reshape(-1)
    found = np.bincount(joint, minlength=counts.size)
    counts += found.reshape(counts.shape)


def table_bits(histogram: np.ndarray, alphabet: Alphabet) -> float:
    """What payload and tables are expected to take.

    Args:
        histogram: Integer array of shape `(tables, tokens)`.
        alphabet: `Alphabet`.

    Returns:
        Bits, float.
    """
    used = histogram[histogram.any(1)].astype(np.float64)
    totals = used.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(used > 0, np.log2(used), 0)
    entropy = totals * np.log2(totals) - (used * logs).sum(1)
    explicit = entropy + _EXPLICIT_BITS
    explicit += _EXPLICIT_TOKEN_BITS * (used > 1).sum(1)
    # A token seen once is left out of the table and escaped.
    explicit += 3.0 * (used == 1).sum(1)
    parametric = np.minimum(*_parametric_bits(used, alphabet))
    best = np.minimum(explicit, parametric).sum()
    return float(best) + 2 * (len(histogram) - len(used))


def _parametric_bits(
    used: np.ndarray, alphabet: Alphabet
) -> tuple[np.ndarray, np.ndarray]:
    whole, nonzero = _coarse_lengths()
    columns = np.arange(alphabet.plain)
    totals = used.sum(1)
    # The mean tells how far a neighbour pushes a distribution aside.
    means = (used[:, : alphabet.plain] * columns).sum(1) / totals
    centers = np.where(
        np.abs(means - alphabet.center) < 0.5, alphabet.center, np.rint(means)
    )
    distances = np.abs(columns - centers[:, None]).astype(np.int64)
    distances = np.minimum(distances, class_rans_family.DISTANCES - 1)
    size = class_rans_family.DISTANCES
    cells = np.arange(len(used))[:, None] * size + distances
    folded = np.bincount(
        cells.reshape(-1),
        used[:, : alphabet.plain].reshape(-1),
        len(used) * size,
    ).reshape(len(used), size)
    reach = int(np.flatnonzero(folded.any(0)).max(initial=0)) + 1
    folded = folded[:, :reach].astype(np.float32)
    first = class_rans_family.expected_bits(folded, whole).min(1)
    zeros = np.clip(folded[:, 0], 0.5, totals - 0.5)
    split = totals * np.log2(totals)
    split -= zeros * np.log2(zeros)
    split -= (totals - zeros) * np.log2(totals - zeros)
    second = class_rans_family.expected_bits(folded, nonzero).min(1) + split
    return first + _PARAMETRIC_BITS, second + _WITH_ZERO_BITS


@functools.cache
def _coarse_lengths() -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(class_rans_family.SCALES * class_rans_family.SHAPES)
    scale, shape = divmod(rows, class_rans_family.SHAPES)
    chosen = (scale % 3 == 0) & np.isin(shape, (0, 3, 7)) & (scale < 90)
    whole, nonzero = class_rans_family.code_lengths()
    return whole[chosen], nonzero[chosen]
