"""The estimate of the coded size as a loss that kernels can follow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_squeeze.codecs.kernel_geometry import default_kind, geometry_of
from keras_squeeze.rate.estimate import LEAST_EXCESS, PRIOR_WEIGHTS

_BITS_PER_NAT = 1 / math.log(2)


def soft_bits(levels: Any) -> Any:
    """The bits of a kernel that lies between the levels of its grid.

    What the next level of each weight would cost is computed from the rounded
    kernel and held constant; between two levels the bits are interpolated,
    which is what weights rounded at random would cost on average. So a
    weight below one step feels a constant pull to zero, as strong as its
    channel, tap and input are empty, and a weight beyond it a weak one.

    Args:
        levels: Float tensor of the kernel's shape, the kernel divided by its
            step.

    Returns:
        Scalar tensor: the bits above those of an empty kernel.

    References:
        [Oktay et al., 2020](https://arxiv.org/abs/1906.06624)
    """
    ops = keras.ops
    magnitude = _canonical(ops.abs(levels))
    rounded = ops.stop_gradient(ops.round(magnitude))
    used = ops.minimum(rounded, 1.0)
    first = ops.minimum(magnitude, 1.0)
    count, total = ops.sum(used), ops.sum(rounded)
    size = math.prod(magnitude.shape)
    overall = (count + 0.5) / (size + 1.0)
    excess = (total - count + LEAST_EXCESS) / (count + 1.0)
    falloff = excess / (1.0 + excess)
    bits = _log2(2.0 - overall) - _log2(overall) - _log2(1.0 - falloff)
    bits = bits * ops.sum(first) - _log2(falloff) * ops.sum(magnitude - first)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        weights = size / magnitude.shape[axis]
        share = ops.sum(used, others) + PRIOR_WEIGHTS * overall
        share = share / (weights + PRIOR_WEIGHTS)
        price = _log2(overall) - _log2(share)
        bits = bits + ops.sum(price * ops.sum(first, others))
    return bits


class CodedSizePenalty(keras.regularizers.Regularizer):
    """A loss for the estimated coded size of a kernel.

    It is attached to the kernel's variable by a callback, not stored in a
    layer's config.

    Args:
        to_levels: Callable that divides the kernel by its learned step.
        weight: `keras.Variable`. What a bit costs, in units of the loss.
    """

    def __init__(self, to_levels: Callable[[Any], Any], weight: Any) -> None:
        self._to_levels, self._weight = to_levels, weight

    def __call__(self, x: Any) -> Any:
        """The penalty of a kernel, a scalar of at least float32."""
        x = keras.ops.convert_to_tensor(x)
        levels = keras.ops.cast(self._to_levels(x), "float32")
        weight = keras.ops.convert_to_tensor(self._weight)
        return weight * soft_bits(levels)


def _canonical(kernel: Any) -> Any:
    """A kernel with three axes: taps, inputs and channels in some order."""
    geometry = geometry_of(kernel.shape, default_kind(kernel.shape))
    if geometry.kind == "matrix_transposed":
        shape = (geometry.channels, 1, geometry.inputs)
    elif geometry.kind == "convolution_transposed":
        shape = (geometry.taps, geometry.channels, geometry.inputs)
    else:
        shape = (geometry.taps, geometry.inputs, geometry.channels)
    return keras.ops.reshape(kernel, shape)


def _log2(x: Any) -> Any:
    return keras.ops.log(x) * _BITS_PER_NAT
