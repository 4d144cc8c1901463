"""What the arguments of schedules have to be."""

from __future__ import annotations

import math
import numbers
from typing import Any

from keras_squeeze.errors import SqueezeError

UNITS = ("steps", "epochs")


def check_sparsity(name: str, value: Any) -> float:
    """Returns `value` as a float, or raises `SqueezeError`."""
    if not is_number(value) or not 0 <= value < 1:
        raise SqueezeError(
            f"Expected `{name}` to be a number in [0, 1). Received: {value!r}"
        )
    return float(value)


def check_unit(value: Any) -> str:
    """Returns the name of a unit, or raises `SqueezeError`."""
    if value not in UNITS:
        raise SqueezeError(
            f"Expected `unit` to be one of {UNITS}. Received: {value!r}"
        )
    return str(value)


def check_point(name: str, value: Any, unit: str = "steps") -> Any:
    """Returns a point in time as an integer, or as a float if in epochs.

    Args:
        name: String. The argument's name, for messages.
        value: Number of at least 0.
        unit: String. `"steps"` or `"epochs"`.

    Returns:
        Integer; float if `unit` is `"epochs"` and it is not whole.

    Raises:
        SqueezeError: If it is negative, or a fraction of a step.
    """
    integral = isinstance(value, numbers.Integral)
    if integral and not isinstance(value, bool) and value >= 0:
        return int(value)
    if unit == "epochs" and is_number(value) and 0 <= value < math.inf:
        return int(value) if value == int(value) else float(value)
    kind = "an integer" if unit == "steps" else "a number"
    raise SqueezeError(
        f"Expected `{name}` to be {kind} of at least 0. Received: {value!r}"
    )


def to_steps(epochs: float, steps_per_epoch: int) -> int:
    """The step that is nearest to a point counted in epochs.

    Args:
        epochs: Number of at least 0.
        steps_per_epoch: Integer. The steps of one epoch.

    Returns:
        Integer.

    Raises:
        SqueezeError: If `steps_per_epoch` is not a positive integer.
    """
    integral = isinstance(steps_per_epoch, numbers.Integral)
    if not integral or isinstance(steps_per_epoch, bool) or steps_per_epoch < 1:
        raise SqueezeError(
            "Expected `steps_per_epoch` to be an integer of at least 1. "
            f"Received: {steps_per_epoch!r}"
        )
    return round(epochs * int(steps_per_epoch))


def is_number(value: Any) -> bool:
    """Whether `value` is a scalar number, of Python or NumPy."""
    return hasattr(type(value), "__float__") and not (
        isinstance(value, bool) or getattr(value, "shape", ()) != ()
    )
