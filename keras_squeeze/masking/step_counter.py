"""The step of a training that may or may not go through the optimizer."""

from __future__ import annotations

import zlib
from typing import Any

import keras

from keras_squeeze.surgery.layer_tree import Kernel, to_numpy


class StepCounter:
    """Reads the step: `optimizer.iterations`, or batches where it stands.

    The optimizer's count is saved and restored with the model, so it is the
    one that training resumes from. Where a `train_step` leaves the compiled
    optimizer aside (an adversarial network with two of its own, say) its
    count never moves although the weights do; then batches are counted.

    Reading the count costs as much as a hundredth of a small model's step.
    It is read often enough not to miss a step that matters, even if the
    optimizer suddenly makes two steps a batch where it made one.

    Args:
        optimizer: The `keras.optimizers.Optimizer` in training, or `None`.
    """

    def __init__(self, optimizer: Any) -> None:
        self.counts_batches = read_iterations(optimizer) is None
        self.step = read_iterations(optimizer) or 0
        self._optimizer = optimizer
        self._still_batches = 0
        self._unread_batches = 0
        self._steps_per_batch = 1.0
        self._moved = False
        self._fingerprint: int | None = None

    def watch(self, kernels: list[Kernel]) -> None:
        """Notes the weights, to tell later whether they have moved."""
        if not self._moved and not self.counts_batches:
            self._fingerprint = _fingerprint(kernels)

    def advance(
        self, batches: int, kernels: list[Kernel], until: int | None
    ) -> None:
        """Moves on after some batches.

        Args:
            batches: Integer. How many batches were trained on.
            kernels: List of `Kernel`, those watched.
            until: Optional integer. The next step that matters, if any.
        """
        self._unread_batches += batches
        if self.counts_batches:
            self.step += batches
        elif not self._moved or self._may_be_near(until):
            self._read(kernels)

    def read(self, kernels: list[Kernel]) -> int:
        """The step as it is now, whether or not one that matters is near."""
        if not self.counts_batches and self._unread_batches:
            self._read(kernels)
        return self.step

    def _may_be_near(self, until: int | None) -> bool:
        if until is None:
            return False
        fastest = 2 * self._steps_per_batch
        return self._unread_batches * fastest >= until - self.step

    def _read(self, kernels: list[Kernel]) -> None:
        iterations = read_iterations(self._optimizer)
        batches, self._unread_batches = self._unread_batches, 0
        if iterations is not None and iterations != self.step:
            self._steps_per_batch = abs(iterations - self.step) / batches
            self.step, self._moved = iterations, True
        elif not self._moved:
            self._still_batches += batches
            self._decide(kernels)

    def _decide(self, kernels: list[Kernel]) -> None:
        # Loss scaling skips steps, and accumulation waits: neither moves the
        # weights, so standing still alone decides nothing.
        inner = getattr(self._optimizer, "inner_optimizer", self._optimizer)
        accumulated = getattr(inner, "gradient_accumulation_steps", None) or 1
        if self._still_batches < accumulated or self._fingerprint is None:
            return
        if _fingerprint(kernels) != self._fingerprint:
            self.counts_batches = True
            self.step += self._still_batches


def read_iterations(optimizer: Any) -> int | None:
    """The steps that an optimizer has made; `None` without one."""
    if optimizer is None:
        return None
    try:
        # Read every batch: by way of NumPy it takes three times as long,
        return int(optimizer.iterations)
    except TypeError:
        # but a variable mirrored over devices knows no other.
        return int(keras.ops.convert_to_numpy(optimizer.iterations))


def _fingerprint(kernels: list[Kernel]) -> int:
    crc = 0
    for kernel in kernels:
        crc = zlib.crc32(to_numpy(kernel.variable).tobytes(), crc)
    return crc
