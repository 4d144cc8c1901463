"""At which steps masks are made anew."""

from __future__ import annotations

from keras_squeeze.errors import SqueezeError
from keras_squeeze.schedules.schedule import Schedule


def last_update_step(
    schedule: Schedule, step: int, frequency: int
) -> int | None:
    """The last step, up to `step`, at which masks are made anew.

    Updates come at `begin_step`, then every `frequency` steps, exactly at
    `end_step`, and at what other milestones a schedule has. Comparing two
    answers tells whether an update was crossed, however many steps lie
    between.

    Args:
        schedule: A `Schedule`, counted in steps.
        step: Integer. The current step.
        frequency: Integer. Steps between updates.

    Returns:
        An integer, or `None` before `begin_step`.

    Raises:
        SqueezeError: If the schedule is counted in epochs.

    Example:
    >>> from keras_squeeze.schedules import PolynomialDecay
    >>> schedule = PolynomialDecay(0, 0.9, begin_step=10, end_step=250)
    >>> [last_update_step(schedule, step, 100) for step in (9, 109, 110, 999)]
    [None, 10, 110, 250]
    """
    _check_steps(schedule)
    if step < schedule.begin_step:
        return None
    if schedule.end_step is not None and step >= schedule.end_step:
        return int(schedule.end_step)
    passed = max(each for each in schedule.milestones if each <= step)
    return int(step - (step - passed) % frequency)


def next_update_step(
    schedule: Schedule, step: int, frequency: int
) -> int | None:
    """The first step after `step` at which masks are made anew.

    Args:
        schedule: A `Schedule`, counted in steps.
        step: Integer. The current step.
        frequency: Integer. Steps between updates.

    Returns:
        An integer, or `None` from `end_step` on.

    Raises:
        SqueezeError: If the schedule is counted in epochs.

    Example:
    >>> from keras_squeeze.schedules import PolynomialDecay
    >>> schedule = PolynomialDecay(0, 0.9, begin_step=10, end_step=250)
    >>> [next_update_step(schedule, step, 100) for step in (9, 10, 210, 250)]
    [10, 110, 250, None]
    """
    last = last_update_step(schedule, step, frequency)
    if last is None:
        return int(schedule.begin_step)
    if schedule.end_step is not None and step >= schedule.end_step:
        return None
    ahead = (each for each in schedule.milestones if each > step)
    return int(min(last + frequency, next(ahead, last + frequency)))


def _check_steps(schedule: Schedule) -> None:
    if schedule.unit != "steps":
        raise SqueezeError(
            "Expected a schedule that counts steps: `in_steps(steps_per_epoch)`"
            f" makes one of a schedule in epochs. Received: {schedule!r}"
        )
