"""Rounding that gradients pass, and steps that are learned with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_squeeze.layers.codebook_intervals import look_up
from keras_squeeze.layers.codebook_levels import round_significant
from keras_squeeze.layers.codebook_memberships import positive
from keras_squeeze.layers.fused_operations import fused, runs_loops

# Of a step, as `quantizers.scale.round_scale` leaves them.
_SIGNIFICANT_BITS = 8
# What steps receive is summed over so many parts of a kernel at once: a sum of
# products over the whole axis would be compiled to two passes.
_PARTS = 8


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
        return values, _gradient_of(weights, step, values, low, high)

    return ops.custom_gradient(rounded)(weights, step)


def round_to_learned_grid(
    weights: Any,
    initial: Any,
    log_step: Any,
    low: Any,
    high: Any,
    bits: int,
    gradient_scale: float = 1.0,
) -> Any:
    """Rounds weights to multiples of a learned step: both of the above in one.

    Args:
        weights: float32 tensor.
        initial: float32 tensor of positive steps that broadcasts against
            `weights`.
        log_step: float32 tensor of the same shape, to be learned.
        low: Float or tensor. The lowest level in units of the step.
        high: Float or tensor. The highest level.
        bits: Integer, as in `round_to_grid`.
        gradient_scale: Float. What gradients of the step are multiplied by.
            Defaults to `1.0`.

    Returns:
        float32 tensor of the shape of `weights`.
    """
    size = math.prod(weights.shape)
    forward, backward = fused(_round_learned, size), fused(_pass_to_both, size)
    parts = _PARTS if runs_loops(size) else 1

    def rounded(weights: Any, log_step: Any) -> Any:
        values = forward(weights, initial, log_step, low, high, bits)

        def gradient(*upstreams: Any, upstream: Any = None) -> Any:
            received = upstreams[0] if upstream is None else upstream
            passed, slope = backward(
                received, weights, initial, log_step, values, low, high, parts
            )
            return passed, slope * gradient_scale

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
    forward, backward = fused(_round, size), fused(_pass_inside, size)

    def rounded(weights: Any) -> Any:
        def gradient(*upstreams: Any, upstream: Any = None) -> Any:
            received = upstreams[0] if upstream is None else upstream
            return backward(received, weights, step, low, high)

        return forward(weights, step, low, high, bits), gradient

    return ops.custom_gradient(rounded)(weights)


def levels_of_grid(inside: Any, low: Any, high: Any, bits: int) -> Any:
    """The level next to values between the lowest and the highest.

    Args:
        inside: float32 tensor, in units of the step.
        low: Float or tensor. The lowest level.
        high: Float or tensor. The highest level.
        bits: Integer, as in `round_to_grid`.

    Returns:
        float32 tensor of the shape of `inside`.
    """
    if bits == 1:
        return ops.where(inside < (low + high) / 2, low, high)
    return ops.round(inside)


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
        return values, _gradient_of(weights, step, values, *limits)

    return ops.custom_gradient(rounded)(weights, step)


def _round_to_levels(
    weights: Any, step: Any, levels: Any, thresholds: Any
) -> Any:
    relative = weights / positive(step)
    return look_up(relative, thresholds, levels)[0] * step


def clip(values: Any, low: Any, high: Any) -> Any:
    """Values between two limits.

    Args:
        values: float32 tensor.
        low: Float or tensor.
        high: Float or tensor.

    Returns:
        float32 tensor of the shape of `values`.
    """
    if keras.backend.backend() == "tensorflow" and isinstance(low, float):
        import tensorflow as tf

        # One pass over the kernel where Keras makes two.
        return tf.raw_ops.ClipByValue(
            t=values, clip_value_min=low, clip_value_max=high
        )
    return ops.minimum(ops.maximum(values, low), high)


def _round(weights: Any, step: Any, low: Any, high: Any, bits: int) -> Any:
    inside = clip(weights / positive(step), low, high)
    return levels_of_grid(inside, low, high, bits) * step


def _gradient_of(
    weights: Any, step: Any, values: Any, low: Any, high: Any
) -> Callable[..., Any]:
    """The gradient of weights and step that `values` have."""
    # Chosen while the layer is called: a gradient does not know of a training.
    size = math.prod(weights.shape)
    pass_back = fused(_pass_back, size)
    parts = _PARTS if runs_loops(size) else 1

    def gradient(*upstreams: Any, upstream: Any = None) -> Any:
        received = upstreams[0] if upstream is None else upstream
        return pass_back(received, weights, step, values, low, high, parts)

    return gradient


def _pass_back(
    received: Any,
    weights: Any,
    step: Any,
    values: Any,
    low: Any,
    high: Any,
    parts: int,
) -> Any:
    passed = _pass_inside(received, weights, step, low, high)
    if parts == 1 or weights.shape[0] % parts or step.shape[0] != 1:
        errors = received * values - passed * weights
    else:
        given = received, weights, step, values, low, high
        errors = _errors_by_parts(*given, parts)
    return passed, _sum_to_shape(errors, step.shape) / positive(step)


def _errors_by_parts(
    received: Any,
    weights: Any,
    step: Any,
    values: Any,
    low: Any,
    high: Any,
    parts: int,
) -> Any:
    """What the step receives, that of all parts of the first axis added up."""
    errors: Any = 0.0
    length = int(weights.shape[0]) // parts
    for start in range(0, parts * length, length):
        part = slice(start, start + length)
        passed = _pass_inside(received[part], weights[part], step, low, high)
        errors += received[part] * values[part] - passed * weights[part]
    return errors


def _pass_inside(
    received: Any, weights: Any, step: Any, low: Any, high: Any
) -> Any:
    relative = weights / positive(step)
    is_inside = ops.logical_and(relative >= low, relative <= high)
    return ops.where(is_inside, received, 0.0)


def _round_learned(
    weights: Any, initial: Any, log_step: Any, low: Any, high: Any, bits: int
) -> Any:
    return _round(weights, _grown(initial, log_step), low, high, bits)


def _pass_to_both(
    received: Any,
    weights: Any,
    initial: Any,
    log_step: Any,
    values: Any,
    low: Any,
    high: Any,
    parts: int,
) -> Any:
    step = _grown(initial, log_step)
    passed, slope = _pass_back(
        received, weights, step, values, low, high, parts
    )
    return passed, slope / positive(step)


def _sum_to_shape(values: Any, shape: Any) -> Any:
    """Undoes a broadcast: sums along the axes that it has repeated."""
    pairs = enumerate(zip(values.shape, shape, strict=True))
    axes = tuple(i for i, (full, size) in pairs if full != size)
    return ops.sum(values, axis=axes, keepdims=True) if axes else values
