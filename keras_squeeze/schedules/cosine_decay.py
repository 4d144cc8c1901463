"""Slowly at first, slowly at last."""

from __future__ import annotations

import math

from keras_squeeze.schedules.ramp import Ramp


class CosineDecay(Ramp):
    """The sparsity follows half a cosine from one end to the other.

    It sets out and arrives slowly and is steepest half way: gentler at the
    beginning than `PolynomialDecay`.

    Args:
        initial_sparsity: Float in `[0, 1)`. The sparsity at `begin_step`.
        final_sparsity: Float in `[0, 1)`. The sparsity from `end_step` on.
        begin_step: Integer. The first step that prunes.
        end_step: Integer. The step that reaches `final_sparsity`.
        unit: String. `"steps"`, or `"epochs"` if the schedule counts these.
            Defaults to `"steps"`.

    Raises:
        SqueezeError: If a sparsity or the steps are out of range.

    Example:
    >>> schedule = CosineDecay(0.0, 0.8, begin_step=0, end_step=100)
    >>> [round(schedule(step), 3) for step in (0, 25, 50, 100)]
    [0.0, 0.117, 0.4, 0.8]
    """

    def share_left(self, left: float) -> float:
        """Half a cosine, from 1 where all is left to 0."""
        return (1 - math.cos(math.pi * left)) / 2
