"""How many bytes codes will take, without coding them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.kernel_geometry import (
    default_kind,
    geometry_of,
    to_canonical,
)
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.rate_distortion_tables import (
    EVEN,
    ODD,
    SCALAR,
    expected_magnitude_classes,
    observed_rates,
)
from keras_squeeze.quantizers.trellis_chains import follow_machine

# What the magnitude of a channel or an input takes beside the codes, bits.
_SIDE_BITS = 2.5
_HEADER_BYTES = 12
_SUMMED_AT_ONCE = 1 << 21


def estimate_bytes(tensor: QuantizedTensor) -> int:
    """Estimates the coded size from the entropy under the coder's classes.

    Args:
        tensor: `QuantizedTensor`.

    Returns:
        Integer, bytes; a few percent from what the codecs reach.

    Example:
    >>> codes = np.zeros((8, 8), "int8")
    >>> estimate_bytes(QuantizedTensor(codes, np.ones((1, 1), "float32"), 8))
    18
    """
    codes, grids = codes_and_grids(tensor)
    classes = expected_magnitude_classes(codes)
    # In place, for a large tensor.
    levels = np.abs(codes, out=codes)
    kinds: tuple[int, ...] = (SCALAR,)
    if grids is not None:
        kinds = (EVEN, ODD)
        levels += grids
        levels >>= 1
    count = int(levels.max(initial=0)) + 2
    rates = observed_rates(levels, grids, classes, kinds, count)
    bits = _sum_of_rates(rates, classes, grids, levels)
    bits += _SIDE_BITS * (codes.shape[0] + codes.shape[2])
    return _HEADER_BYTES + int(np.ceil(bits / 8))


def _sum_of_rates(
    rates: NDArray[np.float32],
    classes: NDArray[np.uint8],
    grids: NDArray[np.uint8] | None,
    levels: NDArray[np.int32],
) -> float:
    total, size = 0.0, levels.size
    flat = classes.reshape(-1), levels.reshape(-1)
    flat_grids = None if grids is None else grids.reshape(-1)
    for start in range(0, size, _SUMMED_AT_ONCE):
        part = slice(start, start + _SUMMED_AT_ONCE)
        grid = 0 if flat_grids is None else flat_grids[part]
        found = rates[flat[0][part], grid, flat[1][part]]
        total += float(found.sum(dtype=np.float64))
    return total


def codes_and_grids(
    tensor: QuantizedTensor,
) -> tuple[NDArray[np.int32], NDArray[np.uint8] | None]:
    """Codes in their canonical shape, and the grid each of them lies on.

    Args:
        tensor: `QuantizedTensor`.

    Returns:
        Pair of int32 codes of shape `(channels, taps, inputs)`, and of uint8
        grids of the same shape, `None` without a trellis.
    """
    trellis = tensor.trellis
    kind = trellis.geometry if trellis else default_kind(tensor.shape)
    geometry = geometry_of(tensor.shape, kind)
    codes = to_canonical(tensor.codes, geometry).astype(np.int32, order="C")
    if trellis is None or not codes.size:
        return codes, None
    return codes, follow_machine(codes, trellis)
