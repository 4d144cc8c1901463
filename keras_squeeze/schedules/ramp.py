"""What schedules share that lead from one sparsity to another."""

from __future__ import annotations

from typing import Any

from keras_squeeze.schedules.checks import check_point, check_sparsity
from keras_squeeze.schedules.schedule import Schedule


class Ramp(Schedule):
    """Base of the schedules that lead from one sparsity to another.

    Subclasses implement `share_left(left)`.

    Args:
        initial_sparsity: Float in `[0, 1)`. The sparsity at `begin_step`.
        final_sparsity: Float in `[0, 1)`. The sparsity from `end_step` on.
        begin_step: Integer. The first step that prunes.
        end_step: Integer. The step that reaches `final_sparsity`.
        unit: String. `"steps"`, or `"epochs"` if the schedule counts these.
            Defaults to `"steps"`.

    Raises:
        SqueezeError: If a sparsity or the steps are out of range.
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: float,
        end_step: float,
        unit: str = "steps",
    ) -> None:
        check_point("end_step", end_step, unit)
        super().__init__(begin_step, end_step, unit)
        self.initial_sparsity = check_sparsity(
            "initial_sparsity", initial_sparsity
        )
        self.final_sparsity = check_sparsity("final_sparsity", final_sparsity)

    def value(self, step: float) -> float:
        """The sparsity on the curve between the two ends."""
        if step >= self.end_step:
            return self.final_sparsity
        length = self.end_step - self.begin_step
        share = self.share_left((self.end_step - step) / length)
        return self.initial_sparsity * share + self.final_sparsity * (
            1.0 - share
        )

    def share_left(self, left: float) -> float:
        """The share of the way still to go, from 1 down to 0.

        Args:
            left: Float in `(0, 1]`. The share of the steps still to go.

        Returns:
            Float in `[0, 1]`.
        """
        raise NotImplementedError(
            f"Expected {type(self).__name__} to implement `share_left`. "
            f"Received: left={left}"
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "initial_sparsity": self.initial_sparsity,
            "final_sparsity": self.final_sparsity,
            **super().get_config(),
        }
