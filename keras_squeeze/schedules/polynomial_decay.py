"""Most weights early, the last ones slowly."""

from __future__ import annotations

import math
from typing import Any

from keras_squeeze.errors import SqueezeError
from keras_squeeze.schedules.checks import is_number
from keras_squeeze.schedules.ramp import Ramp


class PolynomialDecay(Ramp):
    """The share of weights left decays as a polynomial of the step.

    With the default power most weights go early, while the network can still
    make up for them, and the last ones slowly.

    Args:
        initial_sparsity: Float in `[0, 1)`. The sparsity at `begin_step`.
        final_sparsity: Float in `[0, 1)`. The sparsity from `end_step` on.
        begin_step: Integer. The first step that prunes.
        end_step: Integer. The step that reaches `final_sparsity`.
        power: Float, positive. Exponent of the decay. Defaults to `3`.
        unit: String. `"steps"`, or `"epochs"` if the schedule counts these.
            Defaults to `"steps"`.

    Raises:
        SqueezeError: If a sparsity, the steps or `power` are out of range.

    Example:
    >>> schedule = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100)
    >>> [round(schedule(step), 3) for step in (0, 50, 100, 200)]
    [0.0, 0.7, 0.8, 0.8]

    References:
        [Zhu and Gupta, 2017](https://arxiv.org/abs/1710.01878)
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: float,
        end_step: float,
        power: float = 3,
        unit: str = "steps",
    ) -> None:
        super().__init__(
            initial_sparsity, final_sparsity, begin_step, end_step, unit
        )
        if not is_number(power) or not 0 < power < math.inf:
            raise SqueezeError(
                f"Expected `power` to be a positive number. Received: {power!r}"
            )
        self.power = power

    def share_left(self, left: float) -> float:
        """The share of the steps to the power."""
        return float(left**self.power)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {**super().get_config(), "power": self.power}
