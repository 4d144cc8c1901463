"""The base of the schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from keras_squeeze.errors import SqueezeError
from keras_squeeze.schedules.checks import (
    check_point,
    check_sparsity,
    check_unit,
    to_steps,
)

S = TypeVar("S", bound="Schedule")


class Schedule:
    """Base of the schedules: called with a step, gives the sparsity.

    Subclasses implement `value(step)` and `get_config()`; the base answers
    `0.0` before `begin_step` and holds the value of `end_step` after it.

    Args:
        begin_step: Integer. The first step at which weights are pruned.
        end_step: Optional integer. The step of the last change; `None` means
            that there is none.
        unit: String. What all steps of the schedule count: `"steps"` of
            training, or `"epochs"`, which may be fractions. One in epochs is
            called with epochs, and becomes one in steps by `in_steps`.
            Defaults to `"steps"`.

    Raises:
        SqueezeError: If a step is negative, or `end_step < begin_step`.
    """

    #: Steps between updates if the schedule itself sets them, or `None`.
    frequency: int | None = None

    def __init__(
        self,
        begin_step: float = 0,
        end_step: float | None = None,
        unit: str = "steps",
    ) -> None:
        self.unit = check_unit(unit)
        # Steps of training are integers; only epochs may be fractions.
        self.begin_step: Any = check_point("begin_step", begin_step, unit)
        self.end_step: Any = None
        if end_step is not None:
            self.end_step = check_point("end_step", end_step, unit)
            if end_step < begin_step:
                raise SqueezeError(
                    "Expected `end_step` to be None or at least `begin_step`. "
                    f"Received: begin_step={begin_step}, end_step={end_step}"
                )

    def __call__(self, step: float) -> float:
        """The sparsity at a step of training."""
        if step < self.begin_step:
            return 0.0
        if self.end_step is not None:
            step = min(step, self.end_step)
        return check_sparsity("sparsity", self.value(step))

    def value(self, step: float) -> float:
        """The sparsity at a step between `begin_step` and `end_step`."""
        raise NotImplementedError(
            f"Expected {type(self).__name__} to implement `value(step)`. "
            f"Received: step={step}"
        )

    def final(self) -> float | None:
        """The sparsity from `end_step` on, or `None` if there is no end."""
        return None if self.end_step is None else self(self.end_step)

    @property
    def milestones(self) -> tuple[Any, ...]:
        """Ascending steps at which an update comes, whatever the frequency.

        Counting restarts at each. The first is `begin_step`; the last is
        `end_step`, if there is one.
        """
        if self.end_step is None or self.end_step == self.begin_step:
            return (self.begin_step,)
        return (self.begin_step, self.end_step)

    def in_steps(self: S, steps_per_epoch: int) -> S:
        """The same schedule, counted in steps of training.

        Args:
            steps_per_epoch: Integer. The steps of one epoch.

        Returns:
            A schedule whose `unit` is `"steps"`, rounded to whole steps; this
            one, if it is counted in steps.

        Raises:
            SqueezeError: If `steps_per_epoch` is not a positive integer.

        Example:
        >>> from keras_squeeze.schedules import OneShot
        >>> OneShot(0.5, begin_step=1.5, unit="epochs").in_steps(40)
        OneShot(sparsity=0.5, begin_step=60, unit='steps')
        """
        if self.unit == "steps":
            return self
        return type(self).from_config(self._config_in_steps(steps_per_epoch))

    def _config_in_steps(self, steps_per_epoch: int) -> dict[str, Any]:
        """The config with everything that counts epochs in steps."""
        config = {**self.get_config(), "unit": "steps"}
        for name in ("begin_step", "end_step"):
            if config.get(name) is not None:
                config[name] = to_steps(config[name], steps_per_epoch)
        return config

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "begin_step": self.begin_step,
            "end_step": self.end_step,
            "unit": self.unit,
        }

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
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
