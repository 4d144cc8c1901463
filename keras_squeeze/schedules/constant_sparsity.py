"""One sparsity, held or reached at once."""

from __future__ import annotations

from typing import Any

from keras_squeeze.schedules.checks import check_sparsity
from keras_squeeze.schedules.schedule import Schedule


class ConstantSparsity(Schedule):
    """The same sparsity from `begin_step` on.

    Args:
        sparsity: Float in `[0, 1)`. The share of weights that are zero.
        begin_step: Integer. The first step that prunes. Defaults to `0`.
        end_step: Optional integer. The last step at which the choice of
            weights is made anew. Defaults to `None`: until training ends.
        unit: String. `"steps"`, or `"epochs"` if the schedule counts these.
            Defaults to `"steps"`.

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
        begin_step: float = 0,
        end_step: float | None = None,
        unit: str = "steps",
    ) -> None:
        super().__init__(begin_step, end_step, unit)
        self.sparsity = check_sparsity("sparsity", sparsity)

    def value(self, step: float) -> float:
        """The sparsity, whatever the step."""
        return self.sparsity

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {"sparsity": self.sparsity, **super().get_config()}


class OneShot(Schedule):
    """The whole sparsity in one cut; the masks never change again.

    Args:
        sparsity: Float in `[0, 1)`. The share of weights that are zero.
        begin_step: Integer. The step of the cut. Defaults to `0`.
        unit: String. `"steps"`, or `"epochs"` if the schedule counts these.
            Defaults to `"steps"`.

    Raises:
        SqueezeError: If `sparsity` or the step is out of range.

    Example:
    >>> schedule = OneShot(0.9, begin_step=10)
    >>> schedule(9), schedule(10), schedule.end_step
    (0.0, 0.9, 10)
    """

    def __init__(
        self, sparsity: float, begin_step: float = 0, unit: str = "steps"
    ) -> None:
        super().__init__(begin_step, begin_step, unit)
        self.sparsity = check_sparsity("sparsity", sparsity)

    def value(self, step: float) -> float:
        """The sparsity, whatever the step."""
        return self.sparsity

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "sparsity": self.sparsity,
            "begin_step": self.begin_step,
            "unit": self.unit,
        }
