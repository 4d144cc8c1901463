"""When masks change, in steps of the training."""

from __future__ import annotations

from typing import Any

from keras_squeeze import schedules
from keras_squeeze.schedules import Schedule


class UpdateTimes:
    """The steps of a schedule, which may count epochs.

    While it is not known how many steps an epoch has, a schedule that counts
    epochs has none.

    Args:
        schedule: `Schedule`, in steps or in epochs.
        frequency: Integer. Steps between updates.
    """

    def __init__(self, schedule: Schedule, frequency: int) -> None:
        self.counts_epochs = getattr(schedule, "unit", "steps") == "epochs"
        self.steps_per_epoch: int | None = None
        self._frequency = frequency
        self._given = schedule
        #: The `Schedule` in steps, or `None` while it is not known.
        self.schedule = None if self.counts_epochs else schedule

    @property
    def is_known(self) -> bool:
        """Whether the schedule is known in steps."""
        return self.schedule is not None

    @property
    def end_step(self) -> int | None:
        """The step of the last change; `None` if there is none."""
        return None if self.schedule is None else self.schedule.end_step

    def set_steps_per_epoch(self, steps: int) -> None:
        """Tells how many steps an epoch has."""
        self.steps_per_epoch = steps
        if self.counts_epochs:
            self.schedule = self._given.in_steps(steps)

    def last(self, step: int) -> int | None:
        """The last step, up to `step`, at which masks change, if any."""
        if self.schedule is None:
            return None
        return schedules.last_update_step(self.schedule, step, self._frequency)

    def next(self, step: int) -> int | None:
        """The first step after `step` at which masks change, if any."""
        if self.schedule is None:
            return None
        return schedules.next_update_step(self.schedule, step, self._frequency)

    def sparsity(self, step: int | None) -> float:
        """The sparsity from a step on; `0.0` for `None`."""
        if self.schedule is None or step is None:
            return 0.0
        return self.schedule(step)

    def highest_sparsity(self) -> float:
        """The sparsity at the end, or the first where there is no end."""
        schedule: Any = self._given
        final = schedule.final()
        if final is None:
            return schedule(schedule.begin_step)  # type: ignore[no-any-return]
        return float(final)
