"""Learned levels as a codebook: which code each of them gets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.quantized_tensor import codebook_index

# Beside the rounding of values to levels, that of levels must be nothing.
_EXTRA_SIGNIFICANT_BITS = 8
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


def round_levels(levels: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Rounds levels to `8 + bits` significant bits.

    That adds less than 0.001 % to the error, and a file holds such levels
    in two or three bytes.

    Args:
        levels: float64 array.
        bits: Integer. Width of a code.

    Returns:
        float64 array of float32 values, zero or normal.

    Example:
    >>> round_levels(np.array([0.1]), bits=4).tolist()
    [0.100006103515625]
    """
    digits = _EXTRA_SIGNIFICANT_BITS + bits
    fraction, exponent = np.frexp(levels)
    rounded = np.ldexp(np.rint(np.ldexp(fraction, digits)), exponent - digits)
    rounded = np.where(np.abs(rounded) < _SMALLEST_NORMAL, 0.0, rounded)
    return np.clip(rounded, -_LARGEST, _LARGEST)


def place_levels(
    rows: list[NDArray[np.float64]], bits: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Gives levels their codes, in ascending order.

    The level nearest to zero gets the code 0, so that small codes are the
    frequent ones, unless more levels lie on one side than there are codes.

    Args:
        rows: List of float64 arrays: the levels of each codebook, at most
            `2 ** bits`.
        bits: Integer. Width of a code.

    Returns:
        Pair of the codebook, a float32 array of shape
        `(rows, 2 ** bits)`, and which of its entries are levels, a boolean
        array of that shape.

    Example:
    >>> place_levels([np.array([-0.5, 0.0, 0.25])], bits=2)[0].tolist()
    [[0.0, -0.5, 0.0, 0.25]]
    """
    size = 2**bits
    codebook = np.zeros((len(rows), size), np.float32)
    used = np.zeros((len(rows), size), bool)
    for row, levels in enumerate(rows):
        distinct = np.unique(levels.astype(np.float32) + np.float32(0))
        if not distinct.size:
            distinct = np.zeros(1, np.float32)
        middle = int(np.argmin(np.abs(distinct)))
        start = min(max(size // 2 - middle, 0), size - len(distinct))
        codebook[row, start : start + len(distinct)] = distinct
        used[row, start : start + len(distinct)] = True
    return codebook, used


def without_unused(
    codebook: NDArray[np.float32], codes: NDArray[np.int8], bits: int
) -> NDArray[np.float32]:
    """A codebook whose entries are 0 where no code asks for them.

    Args:
        codebook: float32 array of shape `(1, 2 ** bits)` or
            `(rows, 2 ** bits)`.
        codes: int8 array of shape `(rows, n)`.
        bits: Integer. Width of a code.

    Returns:
        float32 array of the codebook's shape.
    """
    size = 2**bits
    places = codebook_index(codes, bits)
    places += np.arange(len(codebook))[:, None] * size
    counts = np.bincount(places.ravel(), minlength=codebook.size)
    return np.where(counts.reshape(codebook.shape) > 0, codebook, np.float32(0))
