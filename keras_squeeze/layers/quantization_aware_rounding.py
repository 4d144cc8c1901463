"""Rounding that gradients pass, and steps that are learned with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_squeeze.layers.codebook_intervals import look_up
from keras_squeeze.layers.codebook_levels import round_significant
from keras_squeeze.layers.codebook_memberships import positive
from keras_squeeze.layers.fused_operations import fused
from keras_squeeze.layers.rounding_gradients import (
    clip,
    gradient_of,
    levels_of_grid,
    parts_to_sum,
    pass_inside,
    pass_to_both,
)

# Of a step, as `quantizers.scale.round_scale` leaves them.
_SIGNIFICANT_BITS = 8


def learned_step(
    initial: Any, log_step: Any, gradient_scale: float = 1.0
) -> Any:
    """The steps of a grid, of 8 significant bits as a file holds them.

    A step is `initial * exp(log_step)`: it stays positive, and an optimizer
    that moves every variable by about the learning rate moves it by so many
    percent, however small the step is. The gradient is that of learned step
    sizes: a change of the step by a percent counts as much as there.

    Args:
        initial: float32 tensor of positive steps.
        log_step: float32 tensor of the same shape, to be learned.
        gradient_scale: Float. What gradients of the step are multiplied by.
            Defaults to `1.0`.

    Returns:
        float32 tensor of the same shape.

    References:
        [Esser et al., 2020](https://arxiv.org/abs/1902.08153)
    """

    def step(log_step: Any) -> Any:
        steps = _grown(initial, log_step)

        def gradient(*upstreams: Any, upstream: Any = None) -> Any:
            received = upstreams[0] if upstream is None else upstream
            return received * gradient_scale / positive(steps)

        return steps, gradient

    return ops.custom_gradient(step)(log_step)


def _grown(initial: Any, log_step: Any) -> Any:
    # Were steps rounded only when they are stored, the stored model would not
    # be the one that was trained.
    return round_significant(initial * ops.exp(log_step), _SIGNIFICANT_BITS)


def round_to_grid(
    weights: Any, step: Any, low: Any, high: Any, bits: int
) -> Any:
    """Rounds weights to multiples of a step; gradients pass straight through.

    The weights' gradient is that of the result where they lie inside the
    grid, and zero where they are clipped. The step's gradient is that of
    learned step sizes.

    Args:
        weights: float32 tensor.
        step: float32 tensor that broadcasts against `weights`; all where it
            is zero becomes zero.
        low: Float or tensor. The lowest level in units of the step.
        high: Float or tensor. The highest level.
        bits: Integer. With 1 there are these two levels alone, else all
            integers between them.

    Returns:
        float32 tensor of the shape of `weights`.

    References:
        [Esser et al., 2020](https://arxiv.org/abs/1902.08153)
    """
    size = math.prod(weights.shape)

    def rounded(weights: Any, step: Any) -> Any:
        values = fused(_round, size)(weights, step, low, high, bits)
        return values, gradient_of(weights, step, low, high, bits)

    return ops.custom_gradient(rounded)(weights, step)


def round_to_learned_grid(
    weights: Any,
    initial: Any,
    log_step: Any,
    low: Any,
    high: Any,
    bits: int,
    gradient_scale: float = 1.0,
    shape: tuple[int, ...] | None = None,
) -> Any:
    """Rounds weights to multiples of a learned step: both of the above in one.

    Args:
        weights: float32 tensor.
        initial: float32 tensor of positive steps.
        log_step: float32 tensor of the same shape, to be learned.
        low: Float or tensor. The lowest level in units of the step.
        high: Float or tensor. The highest level.
        bits: Integer, as in `round_to_grid`.
        gradient_scale: Float. What gradients of the step are multiplied by.
            Defaults to `1.0`.
        shape: Tuple of integers, the shape of steps that broadcasts against
            `weights`. Defaults to the one they have.

    Returns:
        float32 tensor of the shape of `weights`.
    """
    size = math.prod(weights.shape)
    forward, backward = fused(_round_learned, size), fused(pass_to_both, size)
    own = tuple(log_step.shape)
    grid = low, high, bits
    parts = parts_to_sum(size)

    def rounded(weights: Any, log_step: Any) -> Any:
        values, step = forward(weights, initial, log_step, shape or own, *grid)

        def gradient(*upstreams: Any, upstream: Any = None) -> Any:
            received = upstreams[0] if upstream is None else upstream
            given = received, weights, step, *grid, parts
            return backward(*given, own, gradient_scale)

        return values, gradient

    return ops.custom_gradient(rounded)(weights, log_step)


def round_to_fixed_grid(
    weights: Any, step: Any, low: Any, high: Any, bits: int
) -> Any:
    """Rounds weights to multiples of a step that is not learned.

    Args:
        weights: float32 tensor.
        step: float32 tensor that broadcasts against `weights`.
        low: Float or tensor. The lowest level in units of the step.
        high: Float or tensor. The highest level.
        bits: Integer, as in `round_to_grid`.

    Returns:
        float32 tensor of the shape of `weights`.
    """
    size = math.prod(weights.shape)
    forward, backward = fused(_round, size), fused(pass_inside, size)

    def rounded(weights: Any) -> Any:
        def gradient(*upstreams: Any, upstream: Any = None) -> Any:
            received = upstreams[0] if upstream is None else upstream
            return backward(received, weights, step, low, high)

        return forward(weights, step, low, high, bits), gradient

    return ops.custom_gradient(rounded)(weights)


def round_to_levels(
    weights: Any,
    step: Any,
    levels: NDArray[np.float32],
    thresholds: NDArray[np.float32],
) -> Any:
    """Rounds weights to levels times a step; gradients pass as above.

    Args:
        weights: float32 tensor.
        step: float32 tensor that broadcasts against `weights`.
        levels: float32 array of shape `(n,)`, ascending.
        thresholds: float32 array of shape `(n - 1,)`: above each of them the
            next level begins, in units of the step.

    Returns:
        float32 tensor of the shape of `weights`.
    """
    forward = fused(_round_to_levels, math.prod(weights.shape))
    limits = float(levels[0]), float(levels[-1])
    shape = (-1,) + (1,) * len(weights.shape)
    tables = levels.reshape(shape), thresholds.reshape(shape)

    def rounded(weights: Any, step: Any) -> Any:
        values = forward(weights, step, *map(ops.convert_to_tensor, tables))
        return values, gradient_of(weights, step, *limits, None, values)

    return ops.custom_gradient(rounded)(weights, step)


def _round_to_levels(
    weights: Any, step: Any, levels: Any, thresholds: Any
) -> Any:
    relative = weights / positive(step)
    return look_up(relative, thresholds, levels)[0] * step


def _round(weights: Any, step: Any, low: Any, high: Any, bits: int) -> Any:
    inside = clip(weights / positive(step), low, high)
    return levels_of_grid(inside, low, high, bits) * step


def _round_learned(
    weights: Any,
    initial: Any,
    log_step: Any,
    shape: tuple[int, ...],
    low: Any,
    high: Any,
    bits: int,
) -> tuple[Any, Any]:
    step = ops.reshape(_grown(initial, log_step), shape)
    # A result is computed once, not again for every weight.
    return _round(weights, step, low, high, bits), step
