"""The code of least cost for every weight alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError


def cheapest_codes(
    in_steps: NDArray[np.float32],
    importance: NDArray[np.float32] | None,
    classes: NDArray[np.uint8],
    costs: NDArray[np.float32],
) -> NDArray[np.int32]:
    """The best of the nearest code, the one below it, and zero.

    Args:
        in_steps: float32 array, weights in units of the step.
        importance: float32 array of the same shape, or `None`.
        classes: uint8 array of the same shape, rows of `costs`.
        costs: float32 array of shape `(classes, levels)`, the rates in units
            of squared error.

    Returns:
        int32 array of the same shape.
    """
    magnitude = np.abs(in_steps)
    nearest = np.rint(magnitude).astype(np.int32)
    last = costs.shape[1] - 1
    rows = classes.astype(np.int32) * costs.shape[1]
    flat = costs.reshape(-1)

    def cost(level: NDArray[np.int32]) -> NDArray[np.float32]:
        total = magnitude - level.astype(np.float32)
        total *= total
        if importance is not None:
            total *= importance
        total += flat.take(rows + np.minimum(level, last))
        return total

    best = nearest.copy()
    least = cost(nearest)
    for level in (np.maximum(nearest - 1, 0), np.zeros_like(nearest)):
        other = cost(level)
        np.copyto(best, level, where=other < least)
        np.minimum(least, other, out=least)
    np.negative(best, out=best, where=in_steps < 0)
    return best


def relative_importance(
    importance: NDArray[Any] | None, shape: tuple[int, ...], name: str
) -> NDArray[np.float32] | None:
    """Importance with mean 1, checked; `None` stays `None`.

    Args:
        importance: Array or `None`.
        shape: Tuple of integers, the shape of the weights.
        name: String, for the message of an error.

    Returns:
        float32 array of that shape, all zeros if nothing is important.

    Raises:
        SqueezeError: If shape or values are wrong.
    """
    if importance is None:
        return None
    weights = np.asarray(importance, np.float64)
    check_importance(weights, shape, name)
    mean = weights.mean() if weights.size else 0.0
    relative = weights / mean if mean > 0 else np.zeros_like(weights)
    return relative.astype(np.float32)


def check_importance(
    weights: NDArray[np.float64], shape: tuple[int, ...], name: str
) -> None:
    """Raises unless an importance fits a tensor.

    Args:
        weights: float64 array.
        shape: Tuple of integers, the shape of the tensor.
        name: String, the tensor's, for the message.

    Raises:
        SqueezeError: If shape or values are wrong.
    """
    where = name or "the array"
    if weights.shape != tuple(shape):
        raise SqueezeError(
            f"Expected an importance of shape {tuple(shape)} for {where}. "
            f"Received: {weights.shape}"
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise SqueezeError(
            f"Expected finite importance, not negative, for {where}. "
            f"Received: values from {weights.min()} to {weights.max()}"
        )
