"""What every schedule must do, as one callable check."""

from __future__ import annotations

from keras_squeeze.schedules import (
    CallableSchedule,
    Schedule,
    last_update_step,
    next_update_step,
)
from keras_squeeze.testing.expectations import check_config, expect


def check_schedule(schedule: Schedule, steps: int = 300) -> None:
    """Checks that a schedule keeps the contract of `schedules.Schedule`.

    It is a pure function of the step; its values are in `[0, 1)`, zero before
    `begin_step` and constant from `end_step` on; its milestones ascend from
    the one to the other; updates are found alike from before and from after;
    in epochs it says the same as the schedule in steps that it becomes; the
    config makes an equal schedule. What wraps a function has no config.

    Args:
        schedule: The `Schedule` to check.
        steps: Integer. How many steps to look at, or epochs if the schedule
            counts these. Defaults to `300`.

    Raises:
        AssertionError: If the schedule breaks the contract.

    Example:
    >>> from keras_squeeze import schedules, testing
    >>> testing.check_schedule(schedules.CosineDecay(0.0, 0.9, 10, 200))
    """
    _check_values(schedule, steps)
    if not isinstance(schedule, CallableSchedule):
        check_config(schedule)
        _check_copy(schedule, steps)
    counted = schedule.in_steps(10)
    if schedule.unit == "epochs":
        _check_unit(schedule, counted, steps)
    _check_milestones(counted)
    for frequency in (1, 7, 1000):
        _check_updates(counted, frequency, steps)


def _check_values(schedule: Schedule, steps: int) -> None:
    values = [schedule(step) for step in range(steps)]
    backwards = [schedule(step) for step in reversed(range(steps))]
    expect(values == backwards[::-1], "a pure function of the step", schedule)
    for step, value in enumerate(values):
        expect(type(value) is float, f"a float at step {step}", type(value))
        expect(0 <= value < 1, f"a value in [0, 1) at step {step}", value)
        early = step < schedule.begin_step
        expect(not early or value == 0, "zero before `begin_step`", value)
    if schedule.end_step is not None:
        final = schedule(schedule.end_step)
        later = schedule(schedule.end_step + steps)
        expect(later == final, f"{final} for ever after `end_step`", later)
        expect(schedule.final() == final, f"final() of {final}", later)


def _check_copy(schedule: Schedule, steps: int) -> None:
    copy = type(schedule).from_config(schedule.get_config())
    expect(copy.unit == schedule.unit, f"{schedule.unit} again", copy.unit)
    for step in range(steps):
        same = copy(step) == schedule(step)
        expect(same, f"what the copy says at step {step}", schedule(step))


def _check_unit(schedule: Schedule, counted: Schedule, steps: int) -> None:
    expect(counted.unit == "steps", "steps from `in_steps`", counted)
    for epoch in range(steps):
        # Boundaries are rounded to steps: only between them they must agree.
        near = (counted(10 * epoch + k) for k in (-1, 0, 1) if 10 * epoch + k)
        low, *_, high = sorted((*near, counted(10 * epoch)))
        value = schedule(epoch)
        expect(
            low - 0.02 <= value <= high + 0.02,
            f"the value of epoch {epoch} in steps",
            value,
        )


def _check_milestones(schedule: Schedule) -> None:
    points = schedule.milestones
    expect(list(points) == sorted(set(points)), "ascending milestones", points)
    expect(points[0] == schedule.begin_step, "`begin_step` first", points)
    if schedule.end_step is not None:
        expect(points[-1] == schedule.end_step, "`end_step` last", points)


def _check_updates(schedule: Schedule, frequency: int, steps: int) -> None:
    found = [last_update_step(schedule, s, frequency) for s in range(steps)]
    for step in range(1, steps):
        crossed = found[step] != found[step - 1]
        ahead = next_update_step(schedule, step - 1, frequency)
        expect(
            crossed == (ahead == step),
            f"the update at step {step} to be foreseen",
            ahead,
        )
    missed = {p for p in schedule.milestones if p < steps} - set(found)
    expect(not missed, "an update at every milestone", missed)
