"""The same share of what is left, again and again."""

from __future__ import annotations

from keras_squeeze.schedules.ramp import Ramp


class ExponentialDecay(Ramp):
    """Equal times remove equal shares of the weights that are left.

    The share of weights left falls as an exponential of the step, as when a
    fifth of the rest is removed in every round; the number that goes at once
    is largest at the beginning.

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
    >>> schedule = ExponentialDecay(0.0, 0.75, begin_step=0, end_step=100)
    >>> [schedule(step) for step in (0, 50, 100)]
    [0.0, 0.5, 0.75]

    References:
        [Frankle and Carbin, 2019](https://arxiv.org/abs/1803.03635)
    """

    def share_left(self, left: float) -> float:
        """The share of the way still to go, from 1 down to 0."""
        first, last = 1 - self.initial_sparsity, 1 - self.final_sparsity
        if first == last:
            return left
        density = float(first**left * last ** (1 - left))
        return min(1.0, max(0.0, (density - last) / (first - last)))
