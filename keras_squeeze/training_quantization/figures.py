"""What is logged of kernels that are trained with rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_squeeze.layers.quantization_aware_kernel import to_array


def figures_of(layers: Iterable[Any]) -> dict[str, float]:
    """The mean bits of a weight and the signal-to-noise ratio of all.

    Args:
        layers: Iterable of layers that are trained with rounding.

    Returns:
        Dictionary with `bits`, 32 if there is no layer, and
        `quantization_snr_db`: how far the energy of the float kernels lies
        above that of what rounding takes away, infinite if it takes nothing.
    """
    signal = noise = bits = 0.0
    count = 0
    for layer in layers:
        for name in layer.layouts:
            kernel = layer.trained_kernel(name)
            weights = to_array(kernel.variable).astype(np.float64)
            rest = weights - to_array(layer.dequantized(name))
            signal += float(np.vdot(weights, weights))
            noise += float(np.vdot(rest, rest))
            bits += weights.size * kernel.quantizer.bits
            count += weights.size
    ratio = signal / noise if noise else math.inf
    decibel = 10 * math.log10(ratio) if ratio > 0 else -math.inf
    return {
        "bits": bits / count if count else 32.0,
        "quantization_snr_db": decibel,
    }
