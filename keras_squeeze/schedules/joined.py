"""Schedules one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from keras_squeeze.errors import SqueezeError
from keras_squeeze.schedules.checks import to_steps
from keras_squeeze.schedules.identifiers import get, is_registered, serialize
from keras_squeeze.schedules.piecewise import check_boundaries
from keras_squeeze.schedules.schedule import Schedule

J = TypeVar("J", bound="Joined")


class Joined(Schedule):
    """One schedule until a boundary, the next one from there on.

    Each schedule counts its steps from the boundary at which it takes over.
    Until its own `begin_step` the sparsity that was reached before holds.

    Args:
        schedules: Sequence of schedules, in any form that `get` takes, and
            all in the same unit.
        boundaries: Sequence of ascending integers, one fewer than schedules.
            The steps at which the next schedule takes over.

    Raises:
        SqueezeError: If the arguments are not what is listed here.

    Example:
    >>> from keras_squeeze.schedules import ConstantSparsity, PolynomialDecay
    >>> ramp = PolynomialDecay(0.0, 0.5, 0, 100, power=1)
    >>> schedule = Joined([ramp, ConstantSparsity(0.8)], [200])
    >>> [schedule(step) for step in (0, 50, 150, 200)]
    [0.0, 0.25, 0.5, 0.8]
    """

    def __init__(
        self, schedules: Sequence[Any], boundaries: Sequence[float]
    ) -> None:
        self.schedules = tuple(get(each) for each in schedules)
        units = {each.unit for each in self.schedules}
        if len(units) != 1:
            raise SqueezeError(
                "Expected `schedules` to be schedules of one unit, and at "
                f"least one. Received: {schedules!r}"
            )
        unit = units.pop()
        self.boundaries = check_boundaries(boundaries, unit)
        if len(self.schedules) != len(self.boundaries) + 1:
            raise SqueezeError(
                "Expected one of `schedules` more than `boundaries`. Received: "
                f"{len(self.schedules)} schedules, boundaries={boundaries!r}"
            )
        self._charges = self._find_charges()
        start, _, last = self._charges[-1]
        end = None if last.end_step is None else start + last.end_step
        start, _, first = self._charges[0]
        super().__init__(start + first.begin_step, end, unit)
        frequencies = {each.frequency for each in self.schedules}
        self.frequency = frequencies.pop() if len(frequencies) == 1 else None

    def _find_charges(self) -> list[tuple[Any, Any, Schedule]]:
        """From when to when each schedule is in charge, if it begins then."""
        starts = (0, *self.boundaries)
        ends = (*self.boundaries, math.inf)
        return [
            (start, end, each)
            for start, end, each in zip(
                starts, ends, self.schedules, strict=True
            )
            if start + each.begin_step < end
        ]

    def value(self, step: float) -> float:
        """The value of the last schedule that has begun."""
        start, end, schedule = next(
            charge
            for charge in reversed(self._charges)
            if charge[0] + charge[2].begin_step <= step
        )
        return float(schedule(min(step, end) - start))

    @property
    def milestones(self) -> tuple[Any, ...]:
        """The milestones of all schedules while they are in charge."""
        points = {
            start + point
            for start, end, each in self._charges
            for point in each.milestones
            if start + point < end
        }
        return tuple(sorted(points))

    def in_steps(self: J, steps_per_epoch: int) -> J:
        """The same schedules, counted in steps of training.

        Args:
            steps_per_epoch: Integer. The steps of one epoch.

        Returns:
            A schedule whose `unit` is `"steps"`; this one, if it is counted
            in steps.
        """
        if self.unit == "steps":
            return self
        return type(self)(
            [each.in_steps(steps_per_epoch) for each in self.schedules],
            [to_steps(each, steps_per_epoch) for each in self.boundaries],
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "schedules": [
                serialize(each) if is_registered(each) else each
                for each in self.schedules
            ],
            "boundaries": list(self.boundaries),
        }
