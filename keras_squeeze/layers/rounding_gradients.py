"""What weights and steps receive through a rounding to a grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_squeeze.layers.codebook_memberships import positive
from keras_squeeze.layers.fused_operations import fused, runs_loops

# What steps receive is summed over so many parts of a kernel at once: a sum of
# products over the whole axis would be compiled to two passes.
_PARTS = 4


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


def parts_to_sum(size: int) -> int:
    """In how many parts to sum what the step of a kernel receives.

    Args:
        size: Integer. The number of the kernel's elements.

    Returns:
        Integer.
    """
    return _PARTS if runs_loops(size) else 1


def gradient_of(
    weights: Any,
    step: Any,
    low: Any,
    high: Any,
    bits: int | None,
    values: Any = None,
) -> Callable[..., Any]:
    """The gradient of a rounding by weights and step, as `pass_back` has it.

    Returns:
        Callable of what the result receives, as `keras.ops.custom_gradient`
        expects it.
    """
    # Chosen while the layer is called: a gradient does not know of a training.
    size = math.prod(weights.shape)
    compiled = fused(pass_back, size)
    parts = parts_to_sum(size)

    def gradient(*upstreams: Any, upstream: Any = None) -> Any:
        received = upstreams[0] if upstream is None else upstream
        given = received, weights, step, low, high, bits, parts
        return compiled(*given, values)

    return gradient


def pass_back(
    received: Any,
    weights: Any,
    step: Any,
    low: Any,
    high: Any,
    bits: int | None,
    parts: int,
    values: Any = None,
) -> Any:
    """Gradients of weights and step.

    Weights are rounded again where `bits` says how: to read what they were
    rounded to, long after it was written, takes longer.

    Args:
        received: float32 tensor, the gradient of the result.
        weights: float32 tensor of the same shape.
        step: float32 tensor that broadcasts against `weights`.
        low: Float or tensor. The lowest level in units of the step.
        high: Float or tensor. The highest level.
        bits: Integer, as in `round_to_grid`, or `None` with `values`.
        parts: Integer, of `parts_to_sum`.
        values: float32 tensor, what weights were rounded to.

    Returns:
        Pair of float32 tensors of the shapes of `weights` and `step`.
    """
    passed = pass_inside(received, weights, step, low, high)
    front = _axes_of_one_step(step.shape)
    given = received, weights, step, low, high, values
    errors = _errors(bits, parts, *(_rows(value, front) for value in given))
    slope = _sum_to_shape(errors, (1, *step.shape[front:]))
    return passed, ops.reshape(slope, step.shape)


def pass_to_both(
    received: Any,
    weights: Any,
    step: Any,
    low: Any,
    high: Any,
    bits: int,
    parts: int,
    shape: tuple[int, ...],
    scale: float,
) -> Any:
    """Gradients of weights and of the logarithm of a learned step.

    All is as in `pass_back`, and the gradient of the logarithm is multiplied
    by `scale` and has the given shape.

    Returns:
        Pair of float32 tensors, of the shape of `weights` and of `shape`.
    """
    given = received, weights, step, low, high, bits, parts
    passed, slope = pass_back(*given)
    return passed, ops.reshape(slope * scale / positive(step), shape)


def _axes_of_one_step(shape: tuple[int, ...]) -> int:
    """How many axes at the front steps do not differ along, but the last."""
    others = (i for i, size in enumerate(shape[:-1]) if size != 1)
    return next(others, len(shape) - 1)


def _rows(values: Any, front: int) -> Any:
    """The axes at the front as one: sums along one are compiled better."""
    if values is None or isinstance(values, float):
        return values
    count = math.prod(values.shape[:front])
    return ops.reshape(values, (count, *values.shape[front:]))


def _errors(
    bits: int | None,
    parts: int,
    received: Any,
    weights: Any,
    step: Any,
    low: Any,
    high: Any,
    values: Any,
) -> Any:
    """What the step receives, that of all parts of the first axis added up."""
    errors: Any = 0.0
    length, rest = divmod(int(weights.shape[0]), parts)
    if rest:
        length, parts = int(weights.shape[0]), 1
    for start in range(0, parts * length, length):
        part = slice(start, start + length)
        relative = weights[part] / positive(step)
        inside = clip(relative, low, high)
        if bits is None:
            levels = values[part] / positive(step)
        else:
            levels = levels_of_grid(inside, low, high, bits)
        offsets = ops.where(ops.equal(inside, relative), relative, 0.0)
        errors += received[part] * (levels - offsets)
    return errors


def pass_inside(
    received: Any, weights: Any, step: Any, low: Any, high: Any
) -> Any:
    """The gradient of weights: what is received, unless they are clipped.

    Returns:
        float32 tensor of the shape of `weights`.
    """
    relative = weights / positive(step)
    is_inside = ops.logical_and(relative >= low, relative <= high)
    return ops.where(is_inside, received, 0.0)


def _sum_to_shape(values: Any, shape: Any) -> Any:
    """Undoes a broadcast: sums along the axes that it has repeated."""
    pairs = enumerate(zip(values.shape, shape, strict=True))
    axes = tuple(i for i, (full, size) in pairs if full != size)
    return ops.sum(values, axis=axes, keepdims=True) if axes else values
