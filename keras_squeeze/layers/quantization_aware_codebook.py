"""Weights that share the levels of a codebook, and levels that are learned."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_squeeze.layers.codebook_intervals import look_up, midpoints
from keras_squeeze.layers.fused_operations import fused

# Where levels stand on another, so that nothing is divided by zero.
_LEAST_GAP = 1e-30


def share_levels(
    weights: Any,
    scale: Any,
    codebook: Any,
    rows_shape: tuple[int, ...],
    unit: Any,
    hardness: Any,
    digits: int,
    gradient_scale: float = 1.0,
) -> Any:
    """Draws weights to levels of a codebook; gradients pass straight through.

    A soft assignment that becomes a hard one. A weight belongs to the two
    levels it lies between, the more to one the nearer it is: with a hardness
    `h` its memberships are those of fuzzy c-means, in the proportion of the
    distances to the power `-1 / (1 - h)`, and its value is the mean of both
    levels by them. With 0 weights are what they are, with 1 they are their
    nearest levels. The weights' gradient is that of the result; a level's is
    the sum over the weights by their memberships. A level of exactly zero
    stays there. Levels may stand in any order.

    Args:
        weights: float32 tensor.
        scale: float32 tensor that broadcasts against `weights`; `None` for
            levels that are not scaled.
        codebook: float32 tensor of shape `(rows, levels)`.
        rows_shape: Tuple of integers: the shape in which one value for each
            row broadcasts against `weights`.
        unit: Float or tensor that broadcasts against `codebook`: the power
            of two that levels are given in. Their gradient is in it, too.
        hardness: float32 scalar tensor in [0, 1].
        digits: Integer. Significant bits of the levels that are used.
        gradient_scale: Float. What gradients of levels are multiplied by.
            Defaults to `1.0`.

    Returns:
        float32 tensor of the shape of `weights`.

    References:
        [Agustsson et al., 2017](https://arxiv.org/abs/1704.00648) for the
        annealing, [Bezdek, 1981](https://doi.org/10.1007/978-1-4757-0450-1)
        for the memberships,
        [Han et al., 2016](https://arxiv.org/abs/1510.00149) for the gradient
        of shared weights.
    """
    size = math.prod(weights.shape)
    # Chosen while the layer is called: a gradient does not know of a training.
    draw_soft, draw_hard = fused(_draw_soft, size), fused(_draw_hard, size)
    split_soft, split_hard = fused(_split_soft, size), fused(_split_hard, size)
    hardness = ops.convert_to_tensor(hardness)
    is_soft = hardness < 1.0
    places = _places(codebook.shape, rows_shape)

    def shared(weights: Any, codebook: Any) -> Any:
        order = ops.argsort(codebook, axis=-1)
        levels = round_significant(codebook, digits) * unit
        levels = ops.take_along_axis(levels, order, axis=-1)
        levels = ops.reshape(ops.transpose(levels), places.shape)
        values = ops.cond(
            is_soft,
            lambda: draw_soft(weights, scale, levels, hardness),
            lambda: draw_hard(weights, scale, levels),
        )

        def gradient(*upstreams: Any, upstream: Any = None) -> Any:
            received = upstreams[0] if upstream is None else upstream
            given = received, weights, scale, levels, places
            sums = ops.cond(
                is_soft,
                lambda: _sum_soft(split_soft(*given, hardness), places.size),
                lambda: _sum_hard(split_hard(*given), places.size),
            )
            sums = ops.reshape(sums, codebook.shape)
            back = ops.argsort(order, axis=-1)
            sums = ops.take_along_axis(sums, back, axis=-1)
            used = ops.cast(ops.not_equal(codebook, 0.0), "float32")
            return received, sums * used * (gradient_scale / unit)

        return values, gradient

    return ops.custom_gradient(shared)(weights, codebook)


def _places(
    shape: tuple[int, int], rows_shape: tuple[int, ...]
) -> NDArray[np.int32]:
    """Where each level stands in the flattened codebook, levels first."""
    rows, levels = shape
    places = np.arange(rows * levels, dtype=np.int32).reshape(rows, levels)
    return places.T.reshape(levels, *rows_shape)


def _draw_hard(weights: Any, scale: Any, levels: Any) -> Any:
    relative = _relative(weights, scale)
    return _times(look_up(relative, midpoints(levels), levels)[0], scale)


def _draw_soft(weights: Any, scale: Any, levels: Any, hardness: Any) -> Any:
    relative = _relative(weights, scale)
    low, high = look_up(relative, levels[1:-1], levels[:-1], levels[1:])
    inside = ops.minimum(ops.maximum(relative, levels[0]), levels[-1])
    share = _membership(inside, low, high, hardness)
    beyond = (relative - inside) * (1.0 - hardness)
    return _times(low + (high - low) * share + beyond, scale)


def _membership(values: Any, low: Any, high: Any, hardness: Any) -> Any:
    """How far values belong to the higher one of two levels."""
    way = (values - low) / ops.maximum(high - low, _LEAST_GAP)
    way = ops.minimum(ops.maximum(way, 0.0), 1.0)
    power = 1.0 / ops.maximum(1.0 - hardness, 1e-6)
    # Infinite on a level, which gives memberships of exactly 0 and 1.
    odds = (ops.log(1.0 - way) - ops.log(way)) * power
    return 1.0 / (1.0 + ops.exp(odds))


def _split_hard(
    received: Any, weights: Any, scale: Any, levels: Any, places: Any
) -> tuple[Any, Any]:
    """What each weight gives to its level, and the level's place."""
    relative = _relative(weights, scale)
    place = look_up(relative, midpoints(levels), places)[0]
    return _times(received, scale), place


def _split_soft(
    received: Any,
    weights: Any,
    scale: Any,
    levels: Any,
    places: Any,
    hardness: Any,
) -> tuple[Any, Any, Any]:
    """What each weight gives to both its levels, and the lower one's place."""
    relative = _relative(weights, scale)
    low, high, place = look_up(
        relative, levels[1:-1], levels[:-1], levels[1:], places[:-1]
    )
    scaled = _times(received, scale)
    upper = scaled * _membership(relative, low, high, hardness)
    return scaled - upper, upper, ops.broadcast_to(place, weights.shape)


def _sum_hard(parts: tuple[Any, Any], count: int) -> Any:
    values, place = parts
    return _sum_by_place(values, place, count)


def _sum_soft(parts: tuple[Any, Any, Any], count: int) -> Any:
    lower, upper, place = parts
    sums = _sum_by_place(lower, place, count)
    return sums + _sum_by_place(upper, place + 1, count)


def _relative(weights: Any, scale: Any) -> Any:
    return weights if scale is None else weights / positive(scale)


def _times(values: Any, scale: Any) -> Any:
    return values if scale is None else values * scale


def positive(steps: Any) -> Any:
    """Steps, those of zero replaced by one.

    Args:
        steps: float32 tensor.

    Returns:
        float32 tensor of the same shape.
    """
    return ops.where(steps > 0, steps, ops.ones_like(steps))


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


def _sum_by_place(values: Any, places: Any, count: int) -> Any:
    flat, places = ops.reshape(values, (-1,)), ops.reshape(places, (-1,))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # A tenth of the time of a segment sum.
        return tf.math.bincount(
            places, flat, minlength=count, maxlength=count, dtype=flat.dtype
        )
    return ops.segment_sum(flat, places, num_segments=count)
