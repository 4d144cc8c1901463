"""How far a value belongs to the higher one of two levels of a codebook."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_squeeze.layers.codebook_intervals import halfway

# Where levels stand on another, so that nothing is divided by zero.
_LEAST_GAP = 1e-30
# A ramp ends that little before the level, so that rounding errors do not keep
# a value on a level, such as a pruned zero, from belonging to it alone.
_NARROWED = 1.0 - 2.0**-20
# Steep enough for a step: any difference of float32 values times it is above 1.
_STEP = 1e38


def ramps(low: Any, high: Any, hardness: Any) -> tuple[Any, Any, Any]:
    """What `memberships` needs to know of pairs of levels.

    Args:
        low: float32 tensor, the lower levels.
        high: float32 tensor of the same shape, the higher ones.
        hardness: float32 scalar tensor in [0, 1].

    Returns:
        Tuple of the middle between the levels and the slope of the ramp
        through it, both of the shape of the levels, and its height there.
    """
    is_soft = hardness < 1.0
    gap = ops.maximum(high - low, _LEAST_GAP)
    width = gap * (1.0 - hardness) * _NARROWED
    slope = ops.where(is_soft, 1.0 / width, _STEP)
    height = ops.where(is_soft, 0.5, 0.0)
    return halfway(low, high), slope, height


def memberships(values: Any, middle: Any, slope: Any, height: Any) -> Any:
    """How far values belong to the higher one of two levels.

    From 0 at the lower level to 1 at the higher one, along a ramp round the
    middle between them that is the steeper the harder the assignment is: a
    hard sigmoid of the difference of the squared distances. With a hardness
    of 0 the ramp goes from level to level, with 1 it is a step.

    Args:
        values: float32 tensor.
        middle: float32 tensor that broadcasts against `values`, as the next
            two: what `ramps` gives.
        slope: float32 tensor.
        height: float32 tensor.

    Returns:
        float32 tensor in [0, 1].

    Example:
    >>> values = ops.convert_to_tensor([0.0, 2.0, 2.5, 3.0, 4.0])
    >>> ramp = ramps(ops.zeros(()), ops.full((), 4.0), ops.full((), 0.5))
    >>> memberships(values, *ramp).numpy().tolist()
    [0.0, 0.5, 0.75, 1.0, 1.0]
    """
    rise = (values - middle) * slope + height
    return ops.minimum(ops.maximum(rise, 0.0), 1.0)


def unscaled(weights: Any, scale: Any) -> Any:
    """Weights in the unit that levels are given in.

    Args:
        weights: float32 tensor.
        scale: float32 tensor that broadcasts against `weights`, or `None`.

    Returns:
        float32 tensor of the shape of `weights`.
    """
    return weights if scale is None else weights / positive(scale)


def scaled(values: Any, scale: Any) -> Any:
    """The inverse: values in the unit of the weights.

    Args:
        values: float32 tensor.
        scale: float32 tensor that broadcasts against `values`, or `None`.

    Returns:
        float32 tensor of the shape of `values`.
    """
    return values if scale is None else values * scale


def positive(steps: Any) -> Any:
    """Steps, those of zero replaced by one.

    Args:
        steps: float32 tensor.

    Returns:
        float32 tensor of the same shape.
    """
    return ops.where(steps > 0, steps, ops.ones_like(steps))
