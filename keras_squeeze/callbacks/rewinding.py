"""What the callbacks that rewind have in common: they follow the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_squeeze.callbacks.rewind_points import RewindPoints
from keras_squeeze.errors import (
    NoKernelMatchedError,
    SqueezeError,
    UnbuiltModelError,
)
from keras_squeeze.masking.step_counter import StepCounter
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.surgery.layer_tree import Kernel, check_built, find_kernels


class Rewinding(keras.callbacks.Callback):
    """Base of the callbacks that go back to an earlier step.

    Subclasses implement `before_step(step)`, called before every batch with
    the number of steps made so far. Going back waits for the next batch, so
    that what other callbacks do at the end of the last one, such as choosing
    masks, measuring or saving, still sees what was trained.

    Args:
        to: Integer. The step to go back to.
        at: Integer, or sequence of integers. The steps at which to do so.
        unit: `"steps"` or `"epochs"`.
    """

    def __init__(self, to: int, at: int | Sequence[int], unit: str) -> None:
        super().__init__()
        self.points = RewindPoints.checked(to, at, unit)
        self._points = self.points
        self._state: TrainingState | None = None
        self._steps: StepCounter | None = None
        self._first_batch = 0
        self._kernels: list[Kernel] = []

    def before_step(self, step: int) -> None:
        """Does what is due after so many steps."""
        raise NotImplementedError(
            f"Expected {type(self).__name__} to implement `before_step(step)`. "
            f"Received: step={step}"
        )

    def next_step(self, step: int) -> int | None:
        """The first step after one that must not be missed, if any."""
        return self._points.next(step)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to follow the steps of a training."""
        self._points = self.points.in_training(self.params, self._trained())
        self._steps, self._kernels = None, []

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Goes back if it is time to."""
        model = self._trained()
        if self._steps is None:
            self._steps = StepCounter(model.optimizer)
            self._kernels = _find_kernels(model)
            self._steps.watch(self._kernels)
        self._first_batch = batch
        self.before_step(self._steps.step)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Counts the steps."""
        if self._steps is None:
            return
        self._steps.advance(
            max(1, batch - self._first_batch + 1),
            self._kernels,
            until=self.next_step(self._steps.step),
        )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes what is saved with the model off it."""
        if self._state is not None:
            self._state.detach(self._trained())
            self._state = None

    def _trained(self) -> Any:
        if self.model is None:
            raise SqueezeError(
                "Expected a model: pass the callback to `model.fit(callbacks="
                "[...])`, or call `set_model(model)` first. Received: "
                "model=None"
            )
        return self.model

    def _is_built(self) -> bool:
        try:
            check_built(self._trained())
        except UnbuiltModelError:
            return False
        return True


def _find_kernels(model: Any) -> list[Kernel]:
    try:
        return find_kernels(model)
    except (NoKernelMatchedError, UnbuiltModelError):
        return []
