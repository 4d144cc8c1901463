"""The codes of weights on the grid that they were trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError
from keras_squeeze.layers.codebook_intervals import places_between
from keras_squeeze.layers.kernel_layout import KernelLayout
from keras_squeeze.quantizers import Quantizer
from keras_squeeze.quantizers.layout import to_canonical
from keras_squeeze.quantizers.learned_codebook import (
    place_levels,
    without_unused,
)
from keras_squeeze.quantizers.nearest_level import nearest_codes, place_codes

Floats = NDArray[np.float32]


def check_finite(path: str, weights: Floats, scale: Floats) -> None:
    """Raises `NonFiniteError` unless all weights and steps are finite.

    Args:
        path: String. The kernel's path.
        weights: Array, the kernel.
        scale: Array of its steps.
    """
    for what, array in (("weights", weights), ("steps", scale)):
        if not np.isfinite(array).all():
            count = int(np.count_nonzero(~np.isfinite(array)))
            raise NonFiniteError(
                f"Expected finite {what} in {path}. Received: {count} NaN or "
                "infinite values"
            )


def relative_weights(
    layout: KernelLayout, weights: Floats, scale: Floats
) -> Floats:
    """A kernel in units of its scales.

    Args:
        layout: `KernelLayout`.
        weights: Array of the kernel's shape.
        scale: float32 array of shape `(channels, groups)`.

    Returns:
        float32 array of shape `(channels, values)`.
    """
    values = to_canonical(weights.astype(np.float32), layout.axis)
    each = _of_each_value(layout.quantizer, values, scale)
    divisor = np.where(each > 0, each, np.float32(1))
    relative: Floats = np.divide(values, divisor)
    return relative


def codebook_codes(
    quantizer: Quantizer, relative: Floats, codebook: Floats
) -> tuple[Floats, NDArray[np.int8]]:
    """The codes of the nearest levels, and the codebook they belong to.

    Args:
        quantizer: `Quantizer`.
        relative: float32 array of shape `(channels, values)`.
        codebook: float32 array of shape `(1 or channels, levels)`.

    Returns:
        Pair of the codebook, in ascending order if it was learned, and int8
        codes of the shape of `relative`.
    """
    bits = quantizer.bits
    if not quantizer.learns_codebook:
        return codebook, nearest_codes(relative, codebook, bits)
    # Levels may have overtaken each other while they were learned.
    rows = [np.unique(row).astype(np.float64) for row in codebook]
    codebook, used = place_levels(rows, bits)
    by_row = relative.reshape(1, -1) if len(codebook) == 1 else relative
    codes = np.empty(by_row.shape, np.int8)
    for row, values in enumerate(by_row):
        # As in training, to the bit.
        place = places_between(values, codebook[row][used[row]])
        codes[row] = place_codes(bits)[used[row]][place]
    codebook = without_unused(codebook, codes, bits)
    return codebook, codes.reshape(relative.shape)


def uniform_codes(
    quantizer: Quantizer,
    relative: Floats,
    zero_point: NDArray[np.int16] | None,
) -> NDArray[np.int8]:
    """The codes of the nearest levels of a uniform grid.

    Args:
        quantizer: `Quantizer`.
        relative: float32 array of shape `(channels, values)`.
        zero_point: int16 array of shape `(channels, groups)`, or `None`.

    Returns:
        int8 array of the shape of `relative`.
    """
    low, high = grid_limits(quantizer, zero_point is not None)
    if zero_point is None:
        zero_point = np.zeros((1, 1), np.int16)
    shift = _of_each_value(quantizer, relative, zero_point)
    inside = np.clip(relative, low - shift, high - shift)
    if quantizer.bits == 1:
        middle = (low + high) / 2 - shift
        levels = np.where(inside < middle, low - shift, high - shift)
    else:
        levels = np.rint(inside)
    return (levels + shift).astype(np.int8)


def _of_each_value(
    quantizer: Quantizer, values: Floats, groups: NDArray[Any]
) -> Floats:
    """What groups of values have, in a shape that broadcasts against them."""
    shaped = groups.astype(np.float32)
    if shaped.shape[1] > 1:
        size = quantizer.group_size or values.shape[1]
        shaped = np.repeat(shaped, size, axis=1)[:, : values.shape[1]]
    return shaped


def grid_limits(
    quantizer: Quantizer, has_zero_point: bool
) -> tuple[float, float]:
    """The lowest and the highest code of a uniform grid.

    Args:
        quantizer: `Quantizer`.
        has_zero_point: Boolean.

    Returns:
        Pair of floats.
    """
    high = float(quantizer.largest_code)
    low = float(max(1, 2 ** (quantizer.bits - 1))) if has_zero_point else high
    return -low, high
