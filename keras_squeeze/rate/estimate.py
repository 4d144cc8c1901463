"""How many bits a coder takes for integer codes, by a formula.

The model is the one that the coders of this package start from: a code is
zero or not, with a probability that depends on its output channel, its tap
and its input; the magnitudes of those that are not zero fall off
geometrically, and a sign is one bit.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.kernel_geometry import (
    default_kind,
    geometry_of,
    to_canonical,
)

#: How many weights of average density are added to those of a channel, tap or
#: input: none of them is so empty that a weight in it costs infinitely much.
PRIOR_WEIGHTS = 8.0
#: What a coded tensor costs beside its weights: parameters of the coder, and
#: what it takes to learn the rest, measured on kernels of 400 to 400,000.
TENSOR_BITS = 240.0

LEAST_EXCESS = 0.5
_LARGEST_PROBABILITY = 0.99


def estimated_bits(codes: NDArray[np.integer]) -> float:
    """Estimates the size of a kernel's codes after entropy coding.

    Args:
        codes: Array of integers of the kernel's shape.

    Returns:
        Float. Bits, without scales and the file's own overhead.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> dense = rng.integers(-3, 4, (100, 50))
    >>> sparse = dense * (rng.random((100, 50)) < 0.02)
    >>> estimated_bits(dense) / 5000 > 2.7, estimated_bits(sparse) / 5000 < 0.3
    (True, True)
    """
    codes = np.asarray(codes)
    if not np.any(codes):
        return 0.0
    geometry = geometry_of(codes.shape, default_kind(codes.shape))
    levels = to_canonical(np.abs(codes.astype(np.int64)), geometry)
    used = levels > 0
    count, excess = int(used.sum()), int(levels.sum())
    falloff = excess_falloff(excess - count, count)
    probability = _probability_of_use(used)
    bits = -np.log2(np.where(used, probability, 1 - probability)).sum()
    # A sign, and the end of a magnitude.
    bits += count * (1 - math.log2(1 - falloff))
    bits -= (excess - count) * math.log2(falloff)
    return float(bits) + TENSOR_BITS


def excess_falloff(excess: float, count: float) -> float:
    """The ratio of the probabilities of a magnitude and the one below.

    Args:
        excess: Float. The sum of all magnitudes less one.
        count: Float. How many codes are not zero.

    Returns:
        Float in (0, 1).
    """
    mean = (excess + LEAST_EXCESS) / (count + 1)
    return mean / (1 + mean)


def _probability_of_use(used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The probability of each code not to be zero, from its three sums."""
    overall = (used.sum() + 0.5) / (used.size + 1.0)
    probability = np.full((1, 1, 1), overall)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        share = used.mean(others, keepdims=True) * (
            used.size / used.shape[axis]
        )
        size = used.size / used.shape[axis]
        share = (share + PRIOR_WEIGHTS * overall) / (size + PRIOR_WEIGHTS)
        probability = probability * (share / overall)
    clipped: NDArray[np.float64] = np.clip(
        probability, 1e-9, _LARGEST_PROBABILITY
    )
    return clipped
