"""Weights that share the levels of a codebook, and levels that are learned."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from keras_squeeze.layers.codebook_gradients import level_sums
from keras_squeeze.layers.codebook_intervals import look_up
from keras_squeeze.layers.codebook_levels import ascending_levels
from keras_squeeze.layers.codebook_memberships import (
    memberships,
    ramps,
    scaled,
    unscaled,
)
from keras_squeeze.layers.fused_operations import fused


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
    `h` the memberships change along the middle `1 - h` of the way from one to
    the other, and its value is the mean of both levels by them. With 0
    weights are what they are, with 1 they are their nearest levels. The
    weights' gradient is that of the result; a level's is the sum over the
    weights by their memberships. A level of exactly zero stays there. Levels
    may stand in any order.

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
        annealing,
        [Han et al., 2016](https://arxiv.org/abs/1510.00149) for the gradient
        of shared weights.
    """
    size = math.prod(weights.shape)
    # Chosen while the layer is called: a gradient does not know of a training.
    draw = fused(_draw, size)
    sum_up = level_sums(size, codebook.shape[1], rows_shape)
    hardness = ops.convert_to_tensor(hardness)

    def shared(weights: Any, codebook: Any) -> Any:
        def gradient(*upstreams: Any, upstream: Any = None) -> Any:
            received = upstreams[0] if upstream is None else upstream
            return received, sum_up(
                received, weights, scale, codebook, unit, hardness, digits
            ) * (gradient_scale / unit)

        values = draw(
            weights, scale, codebook, unit, hardness, digits, rows_shape
        )
        return values, gradient

    return ops.custom_gradient(shared)(weights, codebook)


def _draw(
    weights: Any,
    scale: Any,
    codebook: Any,
    unit: Any,
    hardness: Any,
    digits: int,
    rows_shape: tuple[int, ...],
) -> Any:
    relative = unscaled(weights, scale)
    levels, _ = ascending_levels(codebook, unit, digits, rows_shape)
    low, high = look_up(relative, levels[1:-1], levels[:-1], levels[1:])
    share = memberships(relative, *ramps(low, high, hardness))
    inside = ops.minimum(ops.maximum(relative, levels[0]), levels[-1])
    beyond = (relative - inside) * (1.0 - hardness)
    # Exact at both ends, which a weighted mean is not.
    between = ops.where(share < 1.0, low + (high - low) * share, high)
    return scaled(between + beyond, scale)
