"""From a name, a config, a number or a function to the schedule, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from keras_squeeze.errors import SqueezeError
from keras_squeeze.registry import Registry
from keras_squeeze.schedules.callable_schedule import CallableSchedule
from keras_squeeze.schedules.checks import is_number
from keras_squeeze.schedules.constant_sparsity import ConstantSparsity
from keras_squeeze.schedules.schedule import Schedule

registry: Registry[Schedule] = Registry("schedule")


def get(identifier: Any) -> Schedule:
    """Finds the schedule that is meant.

    Args:
        identifier: A `Schedule`; a float, which is a constant sparsity; a
            dictionary with `"class_name"` and `"config"`; a name; or a
            callable, also a schedule of TensorFlow Model Optimization.

    Returns:
        A `Schedule`.

    Raises:
        UnknownIdentifierError: If there is no schedule of that name.
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get(0.8)
    ConstantSparsity(sparsity=0.8, begin_step=0, end_step=None, unit='steps')
    """
    if isinstance(identifier, Schedule):
        return identifier
    if is_number(identifier):
        return ConstantSparsity(identifier)
    if isinstance(identifier, str):
        return registry.create(snake_case(identifier))
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        name = snake_case(str(identifier["class_name"]))
        return registry.create(name, identifier.get("config"))
    if callable(identifier) and not isinstance(identifier, type):
        return CallableSchedule(identifier)
    raise SqueezeError(
        "Expected a schedule: a keras_squeeze.schedules object, a sparsity in "
        "[0, 1), a name, a dictionary with 'class_name' and 'config', or a "
        f"callable(step) -> float. Received: {identifier!r}"
    )


def serialize(schedule: Schedule) -> dict[str, Any]:
    """The dictionary from which `get` makes an equal schedule.

    Args:
        schedule: A `Schedule` of a registered class.

    Returns:
        Dictionary with `"class_name"` and `"config"`, ready for JSON.

    Raises:
        SqueezeError: If the schedule wraps a function.
    """
    if not is_registered(schedule):
        raise SqueezeError(
            f"Expected a schedule of a registered class, one of "
            f"{sorted(registry)}. Received: {schedule!r}"
        )
    config = schedule.get_config()
    try:
        json.dumps(config)
    except TypeError as error:
        raise SqueezeError(
            "Expected a schedule without functions or classes that are not "
            f"registered ({error}). Received: {schedule!r}"
        ) from error
    return {"class_name": type(schedule).__name__, "config": config}


def is_registered(schedule: Schedule) -> bool:
    """Whether `get` can make a schedule of this class from a config."""
    return snake_case(type(schedule).__name__) in registry


def snake_case(name: str) -> str:
    """`"PolynomialDecay"` as `"polynomial_decay"`, `"NOfM"` as `"n_of_m"`."""
    words = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
    return re.sub(words, "_", name).lower()
