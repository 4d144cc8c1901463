"""Any function of the step as a schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_squeeze.schedules.checks import to_steps
from keras_squeeze.schedules.schedule import Schedule


class CallableSchedule(Schedule):
    """A schedule around any function of the step.

    Functions that return the sparsity alone are taken as well as the
    schedules of TensorFlow Model Optimization, which return a pair
    `(should_prune, sparsity)` and carry `begin_step`, `end_step` (-1 for
    none) and `frequency`. The function has no config that could be stored, so
    this schedule cannot be made from a config.

    Args:
        function: Callable `step -> float` or `step -> (bool, float)`.
        unit: String. `"steps"`, or `"epochs"` if the function counts these.
            Defaults to `"steps"`.

    Raises:
        SqueezeError: If the steps that the function carries are out of range.

    Example:
    >>> CallableSchedule(lambda step: min(0.5, step / 1000))(100)
    0.1
    """

    def __init__(
        self, function: Callable[[Any], Any], unit: str = "steps"
    ) -> None:
        end_step = getattr(function, "end_step", None)
        super().__init__(
            begin_step=getattr(function, "begin_step", 0),
            end_step=None if end_step == -1 else end_step,
            unit=unit,
        )
        self.function = function
        self.frequency = getattr(function, "frequency", None)

    def value(self, step: float) -> float:
        """What the function answers, without its `should_prune`."""
        result = self.function(step)
        return float(result[1] if isinstance(result, tuple) else result)

    def in_steps(self, steps_per_epoch: int) -> CallableSchedule:
        """The same function, called with the epoch that a step lies in.

        Args:
            steps_per_epoch: Integer. The steps of one epoch.

        Returns:
            A schedule whose `unit` is `"steps"`; this one, if it is counted
            in steps.
        """
        if self.unit == "steps":
            return self
        return CallableSchedule(_PerStep(self, steps_per_epoch))

    def get_config(self) -> dict[str, Any]:
        """The function itself: comparable, but not for storage."""
        return {"function": self.function, "unit": self.unit}


class _PerStep:
    """A function of the epoch as a function of the step."""

    def __init__(
        self, schedule: CallableSchedule, steps_per_epoch: int
    ) -> None:
        self.begin_step = to_steps(schedule.begin_step, steps_per_epoch)
        self.end_step = None
        if schedule.end_step is not None:
            self.end_step = to_steps(schedule.end_step, steps_per_epoch)
        self.frequency = schedule.frequency
        self._function = schedule.function
        self._steps_per_epoch = steps_per_epoch

    def __call__(self, step: int) -> Any:
        return self._function(step / self._steps_per_epoch)
