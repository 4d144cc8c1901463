"""Going back to the learning rate of an early step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.callbacks.rewind_points import (
    RewindPoints,
    accumulated_batches,
)
from keras_squeeze.callbacks.rewinding import Rewinding
from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.optimizer_slots import inner_optimizers
from keras_squeeze.masking.training_state import TrainingState

_HOOK = "_get_current_learning_rate"


@keras.saving.register_keras_serializable(package="keras_squeeze")
class RewoundSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of the learning rate that starts again from a step.

    It is a pure function of the step, as the schedule inside is.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule`.
        to: Integer. The step as at which the schedule starts again.
        at: Integer, or sequence of integers. The steps at which it does so.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    >>> decay = keras.optimizers.schedules.PolynomialDecay(1.0, 10, 0.0)
    >>> rewound = RewoundSchedule(decay, to=2, at=6)
    >>> [round(float(rewound(step)), 1) for step in (2, 5, 6, 7)]
    [0.8, 0.5, 0.8, 0.7]

    References:
        [Renda et al., 2020](https://arxiv.org/abs/2003.02389)
    """

    def __init__(self, schedule: Any, to: int, at: int | Sequence[int]) -> None:
        super().__init__()
        if not _is_schedule(schedule):
            raise SqueezeError(
                "Expected `schedule` to be a `keras.optimizers.schedules."
                f"LearningRateSchedule`. Received: {schedule!r}"
            )
        self.schedule = schedule
        self.points = RewindPoints.checked(to, at)

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step."""
        ops = keras.ops
        step = ops.convert_to_tensor(step)
        shift = ops.cast(0, step.dtype)
        for at in self.points.at:
            back = ops.cast(self.points.to - at, step.dtype)
            shift = ops.where(step >= at, back, shift)
        return self.schedule(step + shift)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "schedule": keras.optimizers.schedules.serialize(self.schedule),
            "to": self.points.to,
            "at": list(self.points.at),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RewoundSchedule:
        """Makes a schedule from what `get_config()` returned."""
        schedule = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(**{**config, "schedule": schedule})


class LearningRateRewinding(Rewinding):
    """Sets the learning rate back to that of an early step.

    At step `at` the learning rate becomes what it was at step `to`, and from
    there on repeats what followed; the weights stay. A network that was
    pruned at `at` recovers so better than by fine-tuning at the last, small
    rate.

    A `LearningRateSchedule` of the optimizer starts again inside the compiled
    step, as in `RewoundSchedule`; optimizer and saved files keep their own
    schedule. Where other callbacks set the rate, as `LearningRateScheduler`
    and `ReduceLROnPlateau` do, it is recorded from `to` on and replayed after
    `at`, the last value holding when the record ends. Put this callback after
    them in the list. The record is saved by `BackupAndRestore`.

    Args:
        to: Integer. The step whose learning rate is gone back to.
        at: Integer, or sequence of integers. The steps at which to do so.
        unit: `"steps"` of the optimizer, or `"epochs"` that are over.
            Defaults to `"steps"`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    rewinding = ks.callbacks.LearningRateRewinding(to=2, at=10, unit="epochs")
    model.fit(x, y, epochs=18, callbacks=[pruning, rewinding])
    ```

    References:
        [Renda et al., 2020](https://arxiv.org/abs/2003.02389)
    """

    def __init__(
        self, to: int, at: int | Sequence[int], unit: str = "steps"
    ) -> None:
        super().__init__(to, at, unit)
        self._hooked: list[Any] = []
        self._records: list[_RateRecord] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Rewinds schedules, and begins to record other learning rates."""
        super().on_train_begin(logs)
        self._unhook()
        recorded = []
        for optimizer in inner_optimizers(self._trained().optimizer):
            vars(optimizer).pop(_HOOK, None)
            if _is_schedule(optimizer._learning_rate):
                self._hook(optimizer)
            else:
                recorded.append(_RateRecord(optimizer, self._points))
        self._keep(recorded)
        if self._hooked and self._trained().compiled:
            # A step traced before would go on with the schedule's own rate.
            self._trained().make_train_function(force=True)

    def before_step(self, step: int) -> None:
        """Records or replays rates that no schedule determines."""
        for record in self._records:
            record.visit(step)

    def next_step(self, step: int) -> int | None:
        """Every step counts while rates are recorded or replayed."""
        replayed = self._records and step >= self._points.to
        return step + 1 if replayed else super().next_step(step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the optimizer as it was."""
        super().on_train_end(logs)
        if self._hooked:
            self._unhook()
            self._trained().train_function = None

    def _hook(self, optimizer: Any) -> None:
        # Keras gives a schedule batches, also where it gathers some a step.
        batches = accumulated_batches(optimizer)
        rewound = RewoundSchedule(
            optimizer._learning_rate,
            self._points.to * batches,
            [at * batches for at in self._points.at],
        )
        # On the instance: configs must keep a schedule that Keras knows.
        vars(optimizer)[_HOOK] = lambda: rewound(optimizer._iterations)
        self._hooked.append(optimizer)

    def _unhook(self) -> None:
        for optimizer in self._hooked:
            vars(optimizer).pop(_HOOK, None)
        self._hooked = []

    def _keep(self, records: list[_RateRecord]) -> None:
        """Saves records with the model; those of an earlier fit are kept."""
        ours = [record.key() for record in self._records]
        if ours != [record.key() for record in records]:
            self._records = records
        if self._records:
            self._state = TrainingState()
            for index, record in enumerate(self._records):
                name = f"learning_rate:{index}"
                self._state.add(name, record.read, record.write)
            self._state.attach(self._trained())


class _RateRecord:
    """The learning rates of one optimizer, from a step to another."""

    def __init__(self, optimizer: Any, points: RewindPoints) -> None:
        self._optimizer, self._points = optimizer, points
        self._rates = np.full(points.at[0] - points.to, np.nan, np.float32)
        self._check()

    def key(self) -> tuple[int, RewindPoints]:
        """What makes a record go on in a further fit."""
        return id(self._optimizer), self._points

    def read(self) -> NDArray[np.float32]:
        """The rates, a step an entry, NaN where none was seen."""
        return self._rates

    def write(self, rates: NDArray[np.float32]) -> None:
        """Replaces the rates."""
        self._rates = np.array(rates)

    def visit(self, step: int) -> None:
        """Records the rate of a step, or sets it to a recorded one."""
        past = [at for at in self._points.at if at <= step]
        if past:
            self._replay(step - past[-1])
        elif step >= self._points.to:
            self._rates[step - self._points.to] = self._current()

    def _replay(self, index: int) -> None:
        seen = np.flatnonzero(~np.isnan(self._rates[: index + 1]))
        if not len(seen):
            raise SqueezeError(
                f"Expected a training that passes step {self._points.to}, to "
                "record the learning rate there: compile the model anew to "
                "count from zero, or choose another `to`. Received: "
                f"to={self._points.to}, at={self._points.at} and no record"
            )
        rate = self._rates[seen[-1]]
        if self._current() != rate:
            self._optimizer.learning_rate = float(rate)

    def _current(self) -> np.float32:
        rate = self._optimizer.learning_rate
        return np.float32(keras.ops.convert_to_numpy(rate))

    def _check(self) -> None:
        if not isinstance(self._optimizer._learning_rate, keras.Variable):
            raise SqueezeError(
                "Expected the optimizer's learning rate to be a number or a "
                "`LearningRateSchedule`. Received: "
                f"learning_rate={self._optimizer._learning_rate!r}"
            )


def _is_schedule(value: Any) -> bool:
    return isinstance(value, keras.optimizers.schedules.LearningRateSchedule)
