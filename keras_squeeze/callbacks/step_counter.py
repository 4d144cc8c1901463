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

    Args:
        model: The `keras.Model` in training.
    """

    def __init__(self, model: Any) -> None:
        self.counts_batches = read_iterations(model) is None
        self.step = read_iterations(model) or 0
        self._still_batches = 0
        self._moved = False
        self._fingerprint: int | None = None

    def watch(self, kernels: list[Kernel]) -> None:
        """Notes the weights, to tell later whether they have moved."""
        if not self._moved and not self.counts_batches:
            self._fingerprint = _fingerprint(kernels)

    def advance(self, model: Any, batches: int, kernels: list[Kernel]) -> None:
        """Moves on after some batches.

        Args:
            model: The `keras.Model` in training.
            batches: Integer. How many batches were trained on.
            kernels: List of `Kernel`, those watched.
        """
        if self.counts_batches:
            self.step += batches
            return
        iterations = read_iterations(model)
        if iterations is not None and iterations != self.step:
            self.step, self._moved = iterations, True
        elif not self._moved:
            self._still_batches += batches
            self._decide(model, kernels)

    def _decide(self, model: Any, kernels: list[Kernel]) -> None:
        # Loss scaling skips steps, and accumulation waits: neither moves the
        # weights, so standing still alone decides nothing.
        inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        accumulated = getattr(inner, "gradient_accumulation_steps", None) or 1
        if self._still_batches < accumulated or self._fingerprint is None:
            return
        if _fingerprint(kernels) != self._fingerprint:
            self.counts_batches = True
            self.step += self._still_batches


def read_iterations(model: Any) -> int | None:
    """The steps the model's optimizer has made; `None` without optimizer."""
    optimizer = getattr(model, "optimizer", None)
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
