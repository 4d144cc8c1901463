"""Weights that share the levels of a codebook, and levels that are learned."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_squeeze.layers.fused_operations import fused


def share_levels(
    weights: Any,
    scale: Any,
    places: Any,
    codebook: Any,
    hardness: Any,
    digits: int,
    gradient_scale: float = 1.0,
) -> Any:
    """Draws weights to their levels; gradients pass straight through.

    A soft assignment that becomes a hard one: with a hardness of 0 the
    weights are what they are, with 1 they are their levels, and in between a
    mixture. The weights' gradient is that of the result; a level's is the sum
    over its weights. A level of exactly zero stays there.

    Args:
        weights: float32 tensor.
        scale: float32 tensor that broadcasts against `weights`; `None` for
            levels that are not scaled.
        places: int32 tensor of the shape of `weights`: the place of each
            weight's level in the flattened codebook.
        codebook: float32 tensor of shape `(rows, levels)`.
        hardness: float32 scalar tensor in [0, 1].
        digits: Integer. Significant bits of the levels that are used.
        gradient_scale: Float. What gradients of levels are multiplied by.
            Defaults to `1.0`.

    Returns:
        float32 tensor of the shape of `weights`.

    References:
        [Agustsson et al., 2017](https://arxiv.org/abs/1704.00648),
        [Han et al., 2016](https://arxiv.org/abs/1510.00149) for the gradient
        of shared weights.
    """

    def shared(weights: Any, codebook: Any) -> Any:
        levels = round_significant(codebook, digits)
        draw = fused(_draw, math.prod(weights.shape))
        values = draw(weights, scale, places, levels, hardness)

        def gradient(*upstreams: Any, upstream: Any = None) -> Any:
            received = upstreams[0] if upstream is None else upstream
            scaled = _times(received, scale)
            sums = _sum_by_place(scaled, places, codebook.shape)
            used = ops.cast(ops.not_equal(codebook, 0.0), "float32")
            return received, sums * used * (hardness * gradient_scale)

        return values, gradient

    return ops.custom_gradient(shared)(weights, codebook)


def _draw(
    weights: Any, scale: Any, places: Any, levels: Any, hardness: Any
) -> Any:
    hard = _times(levels_at(places, levels), scale)
    return hard + (weights - hard) * (1.0 - hardness)


def _times(values: Any, scale: Any) -> Any:
    return values if scale is None else values * scale


def levels_at(places: Any, codebook: Any) -> Any:
    """The level that each weight has.

    Args:
        places: Tensor of integers: places in the flattened codebook.
        codebook: float32 tensor.

    Returns:
        float32 tensor of the shape of `places`.
    """
    return ops.take(ops.reshape(codebook, (-1,)), places, axis=0)


def round_significant(values: Any, digits: int) -> Any:
    """Rounds values to the nearest of so many significant bits.

    Args:
        values: float32 tensor.
        digits: Integer from 1 to 23.

    Returns:
        float32 tensor of the same shape.

    Example:
    >>> float(round_significant(ops.convert_to_tensor(0.1), 8))
    0.10009765625
    """
    # Dekker's splitting of a product: exact, and no backend has another way.
    split = values * (2.0 ** (24 - digits) + 1.0)
    return split - (split - values)


def _sum_by_place(values: Any, places: Any, shape: Any) -> Any:
    count = int(shape[0]) * int(shape[1])
    flat, places = ops.reshape(values, (-1,)), ops.reshape(places, (-1,))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # A tenth of the time of a segment sum.
        sums = tf.math.bincount(
            places, flat, minlength=count, maxlength=count, dtype=flat.dtype
        )
    else:
        sums = ops.segment_sum(flat, places, num_segments=count)
    return ops.reshape(sums, shape)
