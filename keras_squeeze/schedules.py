"""Schedules: what the sparsity should be at a training step.

A schedule is a pure function of the step: it holds no state, so training that
is resumed at step 700 continues exactly where it stood.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any

from keras_squeeze.errors import SqueezeError
from keras_squeeze.registry import Registry


class Schedule:
    """Base of the schedules: called with a step, gives the sparsity.

    Subclasses implement `value(step)` and `get_config()`; the base answers
    `0.0` before `begin_step` and holds the value of `end_step` after it.

    Args:
        begin_step: Integer. The first step at which weights are pruned.
        end_step: Optional integer. The step of the last change; `None` means
            that there is none.

    Raises:
        SqueezeError: If a step is negative, or `end_step < begin_step`.
    """

    #: Steps between updates if the schedule itself sets them, or `None`.
    frequency: int | None = None

    def __init__(
        self, begin_step: int = 0, end_step: int | None = None
    ) -> None:
        self.begin_step = _check_step("begin_step", begin_step)
        self.end_step = None
        if end_step is not None:
            self.end_step = _check_step("end_step", end_step)
            if end_step < begin_step:
                raise SqueezeError(
                    "Expected `end_step` to be None or at least `begin_step`. "
                    f"Received: begin_step={begin_step}, end_step={end_step}"
                )

    def __call__(self, step: int) -> float:
        """The sparsity at a step of training."""
        if step < self.begin_step:
            return 0.0
        if self.end_step is not None:
            step = min(step, self.end_step)
        return check_sparsity("sparsity", self.value(step))

    def value(self, step: int) -> float:
        """The sparsity at a step between `begin_step` and `end_step`."""
        raise NotImplementedError(
            f"Expected {type(self).__name__} to implement `value(step)`. "
            f"Received: step={step}"
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {"begin_step": self.begin_step, "end_step": self.end_step}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Schedule:
        """Makes a schedule from what `get_config()` returned."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and (
            self.get_config() == other.get_config()
        )

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        pairs = (f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({', '.join(pairs)})"


class ConstantSparsity(Schedule):
    """The same sparsity from `begin_step` on.

    Args:
        sparsity: Float in `[0, 1)`. The share of weights that are zero.
        begin_step: Integer. The first step that prunes. Defaults to `0`.
        end_step: Optional integer. The last step at which the choice of
            weights is made anew. Defaults to `None`: until training ends.

    Raises:
        SqueezeError: If `sparsity` or the steps are out of range.

    Example:
    >>> schedule = ConstantSparsity(0.5, begin_step=100)
    >>> schedule(99), schedule(100)
    (0.0, 0.5)
    """

    def __init__(
        self,
        sparsity: float,
        begin_step: int = 0,
        end_step: int | None = None,
    ) -> None:
        super().__init__(begin_step, end_step)
        self.sparsity = check_sparsity("sparsity", sparsity)

    def value(self, step: int) -> float:
        """The sparsity, whatever the step."""
        return self.sparsity

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {"sparsity": self.sparsity, **super().get_config()}


class PolynomialDecay(Schedule):
    """The share of weights left decays as a polynomial of the step.

    With the default power most weights go early, while the network can still
    make up for them, and the last ones slowly.

    Args:
        initial_sparsity: Float in `[0, 1)`. The sparsity at `begin_step`.
        final_sparsity: Float in `[0, 1)`. The sparsity from `end_step` on.
        begin_step: Integer. The first step that prunes.
        end_step: Integer. The step that reaches `final_sparsity`.
        power: Float, positive. Exponent of the decay. Defaults to `3`.

    Raises:
        SqueezeError: If a sparsity, the steps or `power` are out of range.

    Example:
    >>> schedule = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100)
    >>> [round(schedule(step), 3) for step in (0, 50, 100, 200)]
    [0.0, 0.7, 0.8, 0.8]

    References:
        [Zhu and Gupta, 2017](https://arxiv.org/abs/1710.01878)
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
    ) -> None:
        self._last_step = _check_step("end_step", end_step)
        super().__init__(begin_step, end_step)
        self.initial_sparsity = check_sparsity(
            "initial_sparsity", initial_sparsity
        )
        self.final_sparsity = check_sparsity("final_sparsity", final_sparsity)
        if not _is_number(power) or not 0 < power < math.inf:
            raise SqueezeError(
                f"Expected `power` to be a positive number. Received: {power!r}"
            )
        self.power = power

    def value(self, step: int) -> float:
        """The sparsity on the curve between the two ends."""
        length = max(1, self._last_step - self.begin_step)
        left = max(0.0, (self._last_step - step) / length)
        share = float(left**self.power)
        return self.initial_sparsity * share + self.final_sparsity * (
            1.0 - share
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "initial_sparsity": self.initial_sparsity,
            "final_sparsity": self.final_sparsity,
            **super().get_config(),
            "power": self.power,
        }


class CallableSchedule(Schedule):
    """A schedule around any function of the step.

    Functions that return the sparsity alone are taken as well as the
    schedules of TensorFlow Model Optimization, which return a pair
    `(should_prune, sparsity)` and carry `begin_step`, `end_step` (-1 for
    none) and `frequency`. The function has no config that could be stored, so
    this schedule cannot be made from a config.

    Args:
        function: Callable `step -> float` or `step -> (bool, float)`.

    Raises:
        SqueezeError: If the steps that the function carries are out of range.

    Example:
    >>> CallableSchedule(lambda step: min(0.5, step / 1000))(100)
    0.1
    """

    def __init__(self, function: Callable[[int], Any]) -> None:
        end_step = getattr(function, "end_step", None)
        super().__init__(
            begin_step=getattr(function, "begin_step", 0),
            end_step=None if end_step == -1 else end_step,
        )
        self.function = function
        self.frequency = getattr(function, "frequency", None)

    def value(self, step: int) -> float:
        """What the function answers, without its `should_prune`."""
        result = self.function(step)
        return float(result[1] if isinstance(result, tuple) else result)

    def get_config(self) -> dict[str, Any]:
        """The function itself: comparable, but not for storage."""
        return {"function": self.function}


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
    ConstantSparsity(sparsity=0.8, begin_step=0, end_step=None)
    """
    if isinstance(identifier, Schedule):
        return identifier
    if _is_number(identifier):
        return ConstantSparsity(identifier)
    if isinstance(identifier, str):
        return _REGISTRY.create(_snake_case(identifier))
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        name = _snake_case(str(identifier["class_name"]))
        return _REGISTRY.create(name, identifier.get("config"))
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
    name = type(schedule).__name__
    if _snake_case(name) not in _REGISTRY:
        raise SqueezeError(
            f"Expected a schedule of a registered class, one of "
            f"{sorted(_REGISTRY)}. Received: {schedule!r}"
        )
    return {"class_name": name, "config": schedule.get_config()}


def last_update_step(
    schedule: Schedule, step: int, frequency: int
) -> int | None:
    """The last step, up to `step`, at which masks are made anew.

    Updates come at `begin_step`, then every `frequency` steps, and exactly at
    `end_step`. Comparing two answers tells whether an update was crossed,
    however many steps lie between.

    Args:
        schedule: A `Schedule`.
        step: Integer. The current step.
        frequency: Integer. Steps between updates.

    Returns:
        An integer, or `None` before `begin_step`.

    Example:
    >>> schedule = PolynomialDecay(0, 0.9, begin_step=10, end_step=250)
    >>> [last_update_step(schedule, step, 100) for step in (9, 109, 110, 999)]
    [None, 10, 110, 250]
    """
    if step < schedule.begin_step:
        return None
    if schedule.end_step is not None and step >= schedule.end_step:
        return schedule.end_step
    return step - (step - schedule.begin_step) % frequency


def next_update_step(
    schedule: Schedule, step: int, frequency: int
) -> int | None:
    """The first step after `step` at which masks are made anew.

    Args:
        schedule: A `Schedule`.
        step: Integer. The current step.
        frequency: Integer. Steps between updates.

    Returns:
        An integer, or `None` from `end_step` on.

    Example:
    >>> schedule = PolynomialDecay(0, 0.9, begin_step=10, end_step=250)
    >>> [next_update_step(schedule, step, 100) for step in (9, 10, 210, 250)]
    [10, 110, 250, None]
    """
    last = last_update_step(schedule, step, frequency)
    if last is None:
        return schedule.begin_step
    if schedule.end_step is None:
        return last + frequency
    if step >= schedule.end_step:
        return None
    return min(last + frequency, schedule.end_step)


def check_sparsity(name: str, value: Any) -> float:
    """Returns `value` as a float, or raises `SqueezeError`."""
    if not _is_number(value) or not 0 <= value < 1:
        raise SqueezeError(
            f"Expected `{name}` to be a number in [0, 1). Received: {value!r}"
        )
    return float(value)


def _check_step(name: str, value: Any) -> int:
    integral = isinstance(value, numbers.Integral)
    if not integral or isinstance(value, bool) or value < 0:
        raise SqueezeError(
            f"Expected `{name}` to be an integer of at least 0. "
            f"Received: {value!r}"
        )
    return int(value)


def _is_number(value: Any) -> bool:
    return hasattr(type(value), "__float__") and not (
        isinstance(value, bool) or getattr(value, "shape", ()) != ()
    )


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


_REGISTRY: Registry[Schedule] = Registry("schedule")
_REGISTRY.register("constant_sparsity", ConstantSparsity)
_REGISTRY.register("polynomial_decay", PolynomialDecay)
