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
    magnitudes = np.abs(codes)
    classes = expected_magnitude_classes(magnitudes.astype(np.float32))
    kinds: tuple[int, ...] = (SCALAR,)
    levels = magnitudes
    if grids is not None:
        kinds = (EVEN, ODD)
        levels = (magnitudes + grids) >> 1
    count = int(levels.max(initial=0)) + 2
    rates = observed_rates(levels, grids, classes, kinds, count)
    grid = 0 if grids is None else grids
    bits = float(rates[classes, grid, levels].sum(dtype=np.float64))
    bits += _SIDE_BITS * (codes.shape[0] + codes.shape[2])
    return _HEADER_BYTES + int(np.ceil(bits / 8))


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
    codes = to_canonical(tensor.codes, geometry).astype(np.int32)
    if trellis is None or not codes.size:
        return codes, None
    return codes, follow_machine(codes, trellis)
