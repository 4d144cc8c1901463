"""Rounding of scales to eight significant bits.

Such a scale is also a bfloat16 value: its low two bytes are zero, so a file
holds it in half the bytes, and a bfloat16 model multiplies with it exactly.
Rounding comes before the codes are chosen, so it costs no accuracy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGNIFICANT = 256.0
# Smaller scales would make products that TensorFlow and XLA flush to zero.
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


def round_scale(
    scale: NDArray[Any], largest_code: int, up: bool = True
) -> NDArray[np.float32]:
    """Rounds positive scales to 8 significant bits; zeros stay zero.

    Args:
        scale: Array of non-negative floats.
        largest_code: Integer. No product of a code and its scale may leave
            the range of float32.
        up: Boolean. Whether to round up, so that the largest value is not
            clipped, or to the nearest. Defaults to `True`.

    Returns:
        float32 array of the same shape: zero, or normal and finite.

    Example:
    >>> round_scale(np.array([0.0, 0.1, 1.0]), largest_code=127)
    array([0.        , 0.10009766, 1.        ], dtype=float32)
    """
    exact = np.asarray(scale, np.float64)
    fraction, exponent = np.frexp(exact)
    rounding = np.ceil if up else np.rint
    rounded = np.ldexp(rounding(fraction * _SIGNIFICANT), exponent - 8)
    lower = np.ldexp(np.floor(fraction * _SIGNIFICANT), exponent - 8)
    rounded = np.where(rounded * largest_code > _LARGEST, lower, rounded)
    rounded = np.maximum(rounded, _SMALLEST_NORMAL)
    return np.where(exact > 0, rounded, 0.0).astype(np.float32)


def codebook_scale(
    scale: NDArray[Any], codebook: NDArray[np.float32], up: bool = True
) -> NDArray[np.float32]:
    """Rounds the positive scales of a codebook; zeros stay zero.

    Args:
        scale: Array of non-negative floats.
        codebook: float32 array, the levels. No product of one of them and its
            scale leaves the normal range of float32.
        up: Boolean. Whether to round up or to the nearest. Defaults to
            `True`.

    Returns:
        float32 array of the same shape, of 8 significant bits.

    Example:
    >>> codebook_scale(np.array([0.0, 0.1]), np.array([-448.0, 0.0, 0.5]))
    array([0.        , 0.10009766], dtype=float32)
    """
    magnitudes = np.abs(codebook[codebook != 0]).astype(np.float64)
    largest = int(np.ceil(magnitudes.max()))
    widest = np.minimum(np.asarray(scale, np.float64), _LARGEST / largest)
    rounded = round_scale(widest, largest, up)
    # A power of two, so that it too has 8 significant bits.
    least = np.exp2(np.ceil(np.log2(_SMALLEST_NORMAL / magnitudes.min())))
    return np.where(rounded > 0, np.maximum(rounded, least), 0.0).astype(
        np.float32
    )
