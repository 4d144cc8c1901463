"""How many of the kept weights are exchanged at a step."""

from __future__ import annotations

import math
from typing import Any

from keras_squeeze.errors import SqueezeError


def check_fraction(value: Any) -> float:
    """Returns `value` as a float.

    Args:
        value: Number in `(0, 1]`.

    Returns:
        The float.

    Raises:
        SqueezeError: If it is not one.
    """
    number = hasattr(type(value), "__float__") and not isinstance(value, bool)
    if not number or not 0 < value <= 1:
        raise SqueezeError(
            f"Expected `fraction` to be a number in (0, 1]. Received: {value!r}"
        )
    return float(value)


def annealed(fraction: float, step: int, end_step: int | None) -> float:
    """The fraction at a step, falling to 0 along half a cosine.

    Args:
        fraction: Float. The fraction at step 0.
        step: Integer. The current step.
        end_step: Optional integer. The step from which on it is 0; without
            one it does not fall.

    Returns:
        Float.

    Example:
    >>> [round(annealed(0.3, step, 100), 3) for step in (0, 50, 100, 200)]
    [0.3, 0.15, 0.0, 0.0]
    """
    if end_step is None:
        return fraction
    if step >= end_step:
        return 0.0
    return fraction / 2 * (1 + math.cos(math.pi * step / end_step))
