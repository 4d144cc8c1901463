"""A schedule that is already far on when a training begins."""

from __future__ import annotations

import warnings

from keras_squeeze.masking.masked_kernels import MaskedKernels
from keras_squeeze.schedules import Schedule


def warn_of_late_start(
    name: str, schedule: Schedule, step: int, masked: MaskedKernels
) -> None:
    """Warns if a dense model is about to lose many weights at once.

    Args:
        name: String. Who speaks.
        schedule: `Schedule`, in steps.
        step: Integer. The step at which the training begins.
        masked: `MaskedKernels`.
    """
    target = schedule(step)
    if target <= schedule(schedule.begin_step):
        return
    share = masked.zero_share()
    if share < target / 2:
        warnings.warn(
            f"{name}: `optimizer.iterations` is {step} and "
            f"{share:.0%} of the weights are zero; the schedule's sparsity "
            f"of {target:.4g} for that step applies at once. To start "
            "slowly, shift `begin_step` and `end_step` by "
            f"{step}, or compile the model anew. "
            f"Received: schedule={schedule!r}",
            stacklevel=2,
        )
