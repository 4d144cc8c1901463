"""Going back to the weights of an early step, with the masks of a late one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras.src.utils import io_utils

from keras_squeeze.callbacks.rewinding import Rewinding
from keras_squeeze.callbacks.training_snapshot import TrainingSnapshot
from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.training_state import TrainingState


class WeightRewinding(Rewinding):
    """Trains a pruned network again from the weights of an early step.

    The weights are copied at step `to`. When step `at` is reached, those
    that are left get their early values back, while the masks of a pruning
    callback stay in force; then training goes on. With several `at`, each
    of which a pruning schedule raises the sparsity at, this is iterative
    magnitude pruning.

    Biases, normalization statistics and what the optimizer remembers of the
    weights go back too. Its count of steps does not, nor does the learning
    rate: add `LearningRateRewinding` of the same arguments for that. Adam and
    its kin correct their averages by that count, which the copies are
    adjusted to; at step 0 there is nothing to adjust, and the first updates
    after going back there are several times as large as usual.

    Weights are set before the first batch after `at`: metrics and files of
    an epoch that ends there are those of the trained network. The copies are
    held in the main memory, and saved by `BackupAndRestore`. They stay with
    the callback in further fits of the same model with the same optimizer.

    Args:
        to: Integer. The step whose weights are gone back to; 0 is the start.
        at: Integer, or sequence of integers. The steps at which to do so.
        unit: `"steps"` of the optimizer, or `"epochs"` that are over.
            Defaults to `"steps"`.
        verbose: Integer. 0: quiet, 1: a line each time. Defaults to `0`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    sparsity = ks.schedules.ConstantSparsity(0.8, 2000, 2000)
    callbacks = [
        ks.callbacks.MagnitudePruning(sparsity),
        ks.callbacks.WeightRewinding(to=200, at=2000),
        ks.callbacks.LearningRateRewinding(to=200, at=2000),
    ]
    model.fit(x, y, epochs=20, callbacks=callbacks)
    ```

    References:
        [Frankle et al., 2020](https://arxiv.org/abs/1912.05671)
    """

    def __init__(
        self,
        to: int,
        at: int | Sequence[int],
        unit: str = "steps",
        verbose: int = 0,
    ) -> None:
        super().__init__(to, at, unit)
        self.verbose = verbose
        self._snapshot: TrainingSnapshot | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes the copies part of what is saved, if the model is built."""
        super().on_train_begin(logs)
        self._start: int | None = None
        if self._is_built():
            self._prepare()

    def before_step(self, step: int) -> None:
        """Copies the weights at `to` and puts them back at `at`."""
        if self._start is None:
            self._start = step
        if self._state is None and self._is_built():
            self._prepare()
        if self._snapshot is None or self._snapshot.step is None:
            self._take_if_due(step)
        elif self._snapshot.rewinds < self._points.passed(step):
            self._go_back(step, self._snapshot)

    def _prepare(self) -> None:
        model = self._trained()
        snapshot = TrainingSnapshot(model)
        if self._snapshot is None or not self._snapshot.is_like(snapshot):
            self._snapshot = snapshot
        self._state = TrainingState()
        self._snapshot.register(self._state)
        self._state.attach(model)

    def _take_if_due(self, step: int) -> None:
        start = self._start or 0
        late = start > self._points.to
        over = self._points.passed(start) == len(self._points.at)
        if step < self._points.to or (late and over):
            return
        if late or self._snapshot is None:
            raise SqueezeError(
                f"Expected a built model whose training passes step "
                f"{self._points.to}, to copy the weights there: build the "
                "model first, compile it anew to count from zero, or choose "
                f"another `to`. Received: to={self._points.to}, a training "
                f"that begins at step {start}"
            )
        self._snapshot.take(step)

    def _go_back(self, step: int, snapshot: TrainingSnapshot) -> None:
        snapshot.put_back(step)
        snapshot.rewinds = self._points.passed(step)
        if self.verbose:
            io_utils.print_msg(
                f"\nStep {step}: {type(self).__name__} going back to the "
                f"weights of step {snapshot.step}."
            )
