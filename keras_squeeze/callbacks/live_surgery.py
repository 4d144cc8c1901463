"""What callbacks have in common that change layers inside a running fit."""

from __future__ import annotations

import abc
import warnings
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.callback_order import (
    find_callbacks,
    warn_of_savers_before,
)
from keras_squeeze.masking.step_counter import StepCounter
from keras_squeeze.surgery.layer_tree import Filters
from keras_squeeze.surgery.structure_state import find_backup


class LiveSurgery(keras.callbacks.Callback, abc.ABC):
    """Changes layers of the model at an epoch or a step of its training.

    Subclasses say what works on the model (`_make_live`, an object with
    `model`, `is_done`, `begin`, `end` and `figures`), what happens when it is
    time (`_replace`) and what afterwards.

    Args:
        begin_epoch: Integer. The epoch, counted from zero, at whose beginning
            layers change.
        begin_step: Integer or `None`. The step (`optimizer.iterations`) after
            which they change, instead of an epoch.
        filters: Regex, callable or `None`.
        verbose: Integer.

    Raises:
        SqueezeError: If a number is negative.
    """

    #: What happens to kernels, for messages.
    _done_to_kernels = "replaced"

    def __init__(
        self,
        begin_epoch: int,
        begin_step: int | None,
        filters: Filters,
        verbose: int,
    ) -> None:
        super().__init__()
        check_count("begin_epoch", begin_epoch, 0)
        if begin_step is not None:
            check_count("begin_step", begin_step, 0)
        self.begin_epoch, self.begin_step = begin_epoch, begin_step
        self.filters, self.verbose = filters, verbose
        #: What worked on the model of the training that runs or ran last.
        self.live: Any = None
        self._steps: StepCounter | None = None
        self._first_batch = 0
        self._epoch = 0
        self._waits_for_build = False

    @abc.abstractmethod
    def _make_live(self, model: Any, number: int) -> Any:
        """What works on a model; the number tells alike callbacks apart."""

    @abc.abstractmethod
    def _replace(self) -> None:
        """Changes the layers, unless it is done."""

    def _prepare(self) -> None:
        """Does what comes before the change, as soon as there are kernels."""

    def _after_replacement(self) -> None:
        """Does what is due as soon as layers have changed at a step."""

    def _begin_next_epoch(self) -> None:
        """Does what is due at the beginning of an epoch after the change."""

    def _next_step_after(self, step: int) -> int | None:
        """The next step after the change that matters; `None` without one."""
        return None

    def _after_step(self, before: int, after: int) -> None:
        """Does what is due between two steps after the change."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes the structure again that a backup to be restored has."""
        model = self._trained_model()
        warn_of_savers_before(self)
        self._warn_of_early_stopping()
        self._close()
        if self.live is None or self.live.model is not model:
            alike = find_callbacks(self, type(self))
            number = alike.index(self) if self in alike else 0
            self.live = self._make_live(model, number)
        self.live.begin(find_backup(self))
        self._prepare()
        self._steps = None

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Changes the layers, or what comes after that, if it is time."""
        self._epoch = epoch
        live = self._running()
        if self.begin_step is None and epoch >= self.begin_epoch:
            # Keras builds some models in their first batch only.
            self._waits_for_build = not self._trained_model().built
            if not self._waits_for_build:
                self._replace()
        if live.is_done:
            self._begin_next_epoch()

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Begins to count steps, once other callbacks have restored."""
        self._first_batch = batch
        if self._steps is None and self._waits_for_steps():
            self._steps = StepCounter(self._trained_model().optimizer)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Changes the layers, or what comes after that, if it is time."""
        self._prepare()
        if self._waits_for_build:
            self._waits_for_build = False
            self._replace()
        if self._steps is None:
            return
        before = self._steps.step
        batches = max(1, batch - self._first_batch + 1)
        self._steps.advance(batches, [], self._next_step(before))
        after = self._steps.step
        if self._running().is_done:
            self._after_step(before, after)
        elif self.begin_step is not None and after >= self.begin_step:
            self._replace()
            self._after_replacement()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Puts the figures into `logs`."""
        if logs is not None:
            logs.update(self._running().figures(self.filters))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes off what was attached; the changed layers stay."""
        if self.live is not None and not self.live.is_done:
            warnings.warn(
                f"{type(self).__name__}: the training ended before kernels "
                f"were to be {self._done_to_kernels}. Received: begin_epoch="
                f"{self.begin_epoch}, begin_step={self.begin_step}",
                stacklevel=2,
            )
        self._close()

    def _close(self) -> None:
        if self.live is not None:
            self.live.end()

    def _step(self) -> int:
        steps = self._steps or StepCounter(self._trained_model().optimizer)
        return int(steps.read([]))

    def _waits_for_steps(self) -> bool:
        waits = self.begin_step is not None and not self._running().is_done
        return waits or self._next_step_after(0) is not None

    def _next_step(self, step: int) -> int | None:
        if not self._running().is_done:
            return self.begin_step
        return self._next_step_after(step)

    def _warn_of_early_stopping(self) -> None:
        for other in find_callbacks(self, keras.callbacks.EarlyStopping):
            begins = self.begin_epoch if self.begin_step is None else 0
            if other.restore_best_weights and other.start_from_epoch < begins:
                warnings.warn(
                    f"{type(self).__name__}: weights kept from before the "
                    f"kernels are {self._done_to_kernels} cannot be restored. "
                    f"Expected EarlyStopping(start_from_epoch={begins}) or "
                    "later. Received: start_from_epoch="
                    f"{other.start_from_epoch}",
                    stacklevel=2,
                )

    def _trained_model(self) -> Any:
        if self.model is None:
            raise SqueezeError(
                "Expected a model: pass the callback to `model.fit(callbacks="
                "[...])`, or call `set_model(model)` first. Received: "
                "model=None"
            )
        return self.model

    def _running(self) -> Any:
        if self.live is None:
            raise SqueezeError(
                "Expected `on_train_begin()` before any other method of "
                f"{type(self).__name__}. Received: no training"
            )
        return self.live


def check_count(name: str, value: Any, least: int) -> None:
    """Raises `SqueezeError` unless an argument is a large enough integer.

    Args:
        name: String. The argument's name.
        value: Its value.
        least: Integer.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SqueezeError(
            f"Expected `{name}` to be an integer of at least {least}. "
            f"Received: {name}={value!r}"
        )
