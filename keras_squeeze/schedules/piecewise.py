"""Steps of a staircase."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from keras_squeeze.errors import SqueezeError
from keras_squeeze.schedules.checks import check_point, check_sparsity, to_steps
from keras_squeeze.schedules.schedule import Schedule


class Piecewise(Schedule):
    """Constant sparsities, one after the other.

    Updates of the masks fall exactly on the boundaries, whatever their
    frequency in between, and there are none after the last one.

    Args:
        boundaries: Sequence of ascending integers. The steps at which the
            sparsity changes.
        values: Sequence of floats in `[0, 1)`, one more than boundaries: the
            sparsity before the first boundary and from each one on.
        unit: String. `"steps"`, or `"epochs"` if the schedule counts these.
            Defaults to `"steps"`.

    Raises:
        SqueezeError: If the arguments are not what is listed here.

    Example:
    >>> schedule = Piecewise([100, 200], [0.0, 0.5, 0.8])
    >>> [schedule(step) for step in (0, 99, 100, 200, 1000)]
    [0.0, 0.0, 0.5, 0.8, 0.8]
    """

    def __init__(
        self,
        boundaries: Sequence[float],
        values: Sequence[float],
        unit: str = "steps",
    ) -> None:
        self.boundaries = check_boundaries(boundaries, unit)
        if len(values) != len(self.boundaries) + 1:
            raise SqueezeError(
                "Expected one of `values` more than `boundaries`. Received: "
                f"boundaries={boundaries!r}, values={values!r}"
            )
        self.values = tuple(
            check_sparsity(f"values[{index}]", value)
            for index, value in enumerate(values)
        )
        begin = 0 if self.values[0] else self.boundaries[0]
        super().__init__(begin, self.boundaries[-1], unit)

    def value(self, step: float) -> float:
        """The value of the piece in which the step lies."""
        passed = sum(bool(step >= each) for each in self.boundaries)
        return self.values[passed]

    @property
    def milestones(self) -> tuple[Any, ...]:
        """The boundaries, and the first step if it prunes already."""
        return tuple(sorted({self.begin_step, *self.boundaries}))

    def _config_in_steps(self, steps_per_epoch: int) -> dict[str, Any]:
        boundaries = [to_steps(b, steps_per_epoch) for b in self.boundaries]
        return {
            **self.get_config(),
            "boundaries": boundaries,
            "unit": "steps",
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "boundaries": list(self.boundaries),
            "values": list(self.values),
            "unit": self.unit,
        }


def check_boundaries(boundaries: Any, unit: str) -> tuple[Any, ...]:
    """Returns ascending points in time as a tuple.

    Args:
        boundaries: Sequence of numbers.
        unit: String. `"steps"` or `"epochs"`.

    Returns:
        Tuple of numbers.

    Raises:
        SqueezeError: If they are none, or not ascending points in time.
    """
    if not isinstance(boundaries, Sequence) or not boundaries:
        raise SqueezeError(
            "Expected `boundaries` to be a sequence that is not empty. "
            f"Received: {boundaries!r}"
        )
    points = tuple(
        check_point(f"boundaries[{index}]", each, unit)
        for index, each in enumerate(boundaries)
    )
    if any(b <= a for a, b in itertools.pairwise(points)):
        raise SqueezeError(
            f"Expected `boundaries` to ascend. Received: {boundaries!r}"
        )
    return points
