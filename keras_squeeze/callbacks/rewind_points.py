"""When a training goes back, and to where."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.optimizer_slots import inner_optimizers

_UNITS = ("steps", "epochs")


@dataclasses.dataclass(frozen=True)
class RewindPoints:
    """The step to go back to and the steps at which to do so.

    Args:
        to: Integer.
        at: Tuple of integers.
        unit: `"steps"` or `"epochs"`. Epochs are counted when they are over:
            1 is the end of the first.

    Example:
    >>> points = RewindPoints.checked(to=1, at=[5, 9], unit="epochs")
    >>> points.in_steps(100)
    RewindPoints(to=100, at=(500, 900), unit='steps')
    """

    to: int
    at: tuple[int, ...]
    unit: str = "steps"

    @classmethod
    def checked(
        cls, to: int, at: int | Sequence[int], unit: str = "steps"
    ) -> RewindPoints:
        """Makes points of what a user gave.

        Args:
            to: Integer of at least 0.
            at: Integer, or sequence of growing integers, all greater than
                `to`.
            unit: `"steps"` or `"epochs"`.

        Raises:
            SqueezeError: If they are not what is listed here.
        """
        if unit not in _UNITS:
            raise SqueezeError(
                f"Expected `unit` to be one of {list(_UNITS)}. "
                f"Received: {unit!r}"
            )
        points = [to, *(at if isinstance(at, Sequence) else [at])]
        growing = all(map(_is_count, points)) and points == sorted(set(points))
        if len(points) < 2 or not growing:
            raise SqueezeError(
                "Expected `to` to be an integer of at least 0, and `at` to be "
                "one or several integers that grow, all greater than `to`. "
                f"Received: to={to!r}, at={at!r}"
            )
        return cls(int(to), tuple(int(point) for point in points[1:]), unit)

    def in_steps(self, steps_per_epoch: int) -> RewindPoints:
        """The same points counted in steps."""
        if self.unit == "steps":
            return self
        at = tuple(epoch * steps_per_epoch for epoch in self.at)
        return RewindPoints(self.to * steps_per_epoch, at)

    def in_training(
        self, params: Mapping[str, Any] | None, model: Any
    ) -> RewindPoints:
        """The same points in steps of the optimizer of a running fit.

        Args:
            params: Dictionary, the `params` of a `keras.callbacks.Callback`.
            model: The `keras.Model` in training.

        Raises:
            SqueezeError: If the number of batches an epoch is unknown.
        """
        if self.unit == "steps":
            return self
        batches = (params or {}).get("steps")
        if not batches:
            raise SqueezeError(
                "Expected the number of batches in an epoch to be known, to "
                "count in epochs: give `steps_per_epoch=` to `fit`, or use "
                f"unit='steps'. Received: steps={batches!r}"
            )
        batches_a_step = accumulated_batches(model.optimizer)
        return self.in_steps(max(1, int(batches) // batches_a_step))

    def passed(self, step: int) -> int:
        """How many of the points `at` a step has reached."""
        return sum(at <= step for at in self.at)

    def next(self, step: int) -> int | None:
        """The first of all points after a step, if there is one."""
        return min((p for p in (self.to, *self.at) if p > step), default=None)


def accumulated_batches(optimizer: Any) -> int:
    """How many batches an optimizer gathers gradients of for one step."""
    for inner in inner_optimizers(optimizer):
        return getattr(inner, "gradient_accumulation_steps", None) or 1
    return 1


def _is_count(value: Any) -> bool:
    integral = isinstance(value, numbers.Integral)
    return integral and not isinstance(value, bool) and value >= 0
