"""Pruning while a model trains, without wrapping its layers."""

from __future__ import annotations

import re
import warnings
from typing import Any

import keras
import numpy as np
from keras.src.utils import io_utils

from keras_squeeze import schedules
from keras_squeeze.callbacks.kernel_mask import (
    KernelMask,
    make_masks,
    sparsity_under_masks,
    zero_share,
)
from keras_squeeze.callbacks.optimizer_slots import clear_slots
from keras_squeeze.callbacks.step_counter import StepCounter
from keras_squeeze.errors import (
    NoKernelMatchedError,
    SqueezeError,
    UnbuiltModelError,
)
from keras_squeeze.pruning import criteria, patterns
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    check_built,
    find_kernels,
)


class MagnitudePruning(keras.callbacks.Callback):
    """Sets a growing share of a model's weights to zero while it trains.

    Every kernel gets a boolean mask, applied by the optimizer right after
    each update inside the compiled step: at the end of every batch the pruned
    weights are exactly zero. The layers, their configs and the saved files
    stay those of the plain model. When training ends the masks are applied a
    last time and taken off; the model's own constraints are put back.

    The step is `model.optimizer.iterations`. It is saved with the model, so a
    training resumed by `BackupAndRestore` goes on with the masks it had. It
    also goes on counting in a second `fit`; compile the model anew to start
    from zero, or shift the schedule's `begin_step`. Where a custom
    `train_step` leaves the compiled optimizer aside, batches are counted.

    Masks change between batches only: under `steps_per_execution` between
    executions. Put the callback before `ModelCheckpoint` and
    `BackupAndRestore` in the list: what they save after a batch at which a
    mask changes then holds the new mask. `EarlyStopping` with
    `restore_best_weights` should begin after the schedule's end
    (`start_from_epoch`), or it may bring back a less sparse epoch.
    `SwapEMAWeights` evaluates averages that are masked at the end only. If
    training is interrupted, the masks stay in force until the next training
    with this callback, or until its `on_train_end()` is called.

    The share of zeros in the masked kernels is logged as `sparsity` at the
    end of every epoch.

    Args:
        schedule: When to prune how much: a `keras_squeeze.schedules` object,
            its config, a float for a constant sparsity, a callable
            `step -> float`, or a schedule of TensorFlow Model Optimization,
            whose own `frequency` then holds.
        criterion: Name, config or object that ranks the weights of a kernel.
            Defaults to `"magnitude"`.
        pattern: Name, config or object that chooses from the ranks. Defaults
            to `"unstructured"`.
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to `None`: the kernels of all Dense,
            convolutional, Embedding, EinsumDense and recurrent layers.
            Kernels that are not trainable are left alone.
        frequency: Integer. Steps between changes of the masks. Defaults to
            `100`.
        verbose: Integer. 0: quiet, 1: a line for each change of the sparsity.
            Defaults to `0`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    schedule = ks.schedules.PolynomialDecay(0.0, 0.9, 0, 2000)
    pruning = ks.callbacks.MagnitudePruning(schedule)
    model.fit(x, y, epochs=10, callbacks=[pruning])
    ```

    References:
        [Zhu and Gupta, 2017](https://arxiv.org/abs/1710.01878)
    """

    def __init__(
        self,
        schedule: Any,
        criterion: Any = "magnitude",
        pattern: Any = "unstructured",
        filters: Filters = None,
        frequency: int = 100,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self.schedule = schedules.get(schedule)
        self.criterion = criteria.get(criterion)
        self.pattern = patterns.get(pattern)
        self.filters = _check_filters(filters)
        self.frequency = _check_frequency(self.schedule.frequency or frequency)
        self.verbose = verbose
        self._masks: list[KernelMask] = []
        self._reset()

    def _reset(self) -> None:
        self._steps: StepCounter | None = None
        self._attached = False
        self._first_batch = 0
        self._updated_at: int | None = None
        self._sparsity = 0.0
        self._trusted = False
        # Under JAX a compiled step holds a mask as a constant.
        self._assigns = keras.backend.backend() == "jax"

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts masks on the kernels, if the model has them already."""
        model = self._trained_model()
        self._detach()
        self._reset()
        try:
            check_built(model)
        except UnbuiltModelError:
            return
        self._attach(model)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Recovers the masks in force, once other callbacks have restored."""
        self._first_batch = batch
        if self._steps is not None:
            return
        model = self._trained_model()
        self._steps = StepCounter(model)
        if self._attached:
            self._warn_of_late_start()
            self._update_if_due(recover=True)
            self._steps.watch(self._kernels())

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Keeps the masks where the optimizer does not, and renews them."""
        model = self._trained_model()
        if self._steps is None:
            self._steps = StepCounter(model)
        if not self._attached:
            self._attach(model)
            self._steps.watch(self._kernels())
        batches = max(1, batch - self._first_batch + 1)
        self._steps.advance(
            model,
            batches,
            self._kernels(),
            until=schedules.next_update_step(
                self.schedule, self._steps.step, self.frequency
            ),
        )
        self._enforce()
        self._update_if_due()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs the share of zeros as `sparsity`."""
        if logs is not None and self._attached:
            kernels = find_kernels(self._trained_model())
            logs["sparsity"] = sparsity_under_masks(kernels)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Applies the masks a last time and takes them off."""
        for mask in self._masks:
            # Averages (`use_ema=True`) were written after the last step.
            mask.apply()
        self._detach()

    def _trained_model(self) -> Any:
        model = self.model
        if model is None:
            raise SqueezeError(
                "Expected a model: pass the callback to `model.fit(callbacks="
                "[...])`, or call `set_model(model)` first. Received: "
                "model=None"
            )
        return model

    def _attach(self, model: Any) -> None:
        kernels = find_kernels(model, self.filters)
        trained = [kernel for kernel in kernels if kernel.variable.trainable]
        if not trained:
            raise NoKernelMatchedError(
                "Expected `filters` to match at least one trainable kernel. "
                f"Received: filters={self.filters!r}, which matches "
                f"{[kernel.path for kernel in kernels]}, all frozen"
            )
        self._masks = make_masks(model, trained)
        self._attached = True
        if model.compiled:
            # A step traced before would go on without the masks.
            model.make_train_function(force=True)

    def _detach(self) -> None:
        for mask in self._masks:
            mask.detach()
        if self._masks and self._model is not None:
            # A step traced with the masks would go on with them.
            self.model.train_function = None
        self._masks = []
        self._attached = False

    def _kernels(self) -> list[Kernel]:
        return [mask.kernel for mask in self._masks]

    def _enforce(self) -> None:
        """Applies the masks here if the training step does not."""
        if self._sparsity and not self._trusted and not self._assigns:
            # Later violations are seen where an update reads the weights.
            self._trusted = True
            if any(m.is_violated_by(m.weights()) for m in self._masks):
                self._fall_back()
        if self._assigns:
            for mask in self._masks:
                mask.apply()

    def _fall_back(self) -> None:
        self._assigns = True
        warnings.warn(
            f"{type(self).__name__}: the model's `train_step` changes weights "
            "without its optimizer's `apply`, so that constraints are not "
            "applied; the masks are assigned after each batch instead.",
            stacklevel=2,
        )

    def _update_if_due(self, recover: bool = False) -> None:
        step = self._steps.step if self._steps is not None else 0
        due = schedules.last_update_step(self.schedule, step, self.frequency)
        if due is None or due == self._updated_at:
            return
        self._updated_at = due
        sparsity = self.schedule(due)
        for mask in self._masks:
            self._update(mask, sparsity, recover)
        if self.verbose and sparsity != self._sparsity:
            io_utils.print_msg(
                f"\nStep {step}: {type(self).__name__} setting sparsity to "
                f"{sparsity:.4g}."
            )
        self._sparsity = sparsity

    def _update(self, mask: KernelMask, sparsity: float, recover: bool) -> None:
        weights = mask.weights()
        if not self._assigns and mask.is_violated_by(weights):
            self._fall_back()
        scores = self.criterion.scores(weights)
        if recover:
            # Whatever the criterion, weights found pruned were pruned.
            scores = np.where(weights == 0, -np.inf, scores)
        keep = self.pattern.mask(scores, sparsity)
        grown = keep & ~mask.keep
        mask.assign(keep, weights)
        if grown.any() and self._trained_model().optimizer is not None:
            clear_slots(self.model.optimizer, mask.kernel.variable, grown)

    def _warn_of_late_start(self) -> None:
        step = self._steps.step if self._steps is not None else 0
        schedule = self.schedule
        target = schedule(step)
        if target <= schedule(schedule.begin_step):
            return
        share = zero_share([mask.weights() for mask in self._masks])
        if share < target / 2:
            warnings.warn(
                f"{type(self).__name__}: `optimizer.iterations` is {step} and "
                f"{share:.0%} of the weights are zero; the schedule's sparsity "
                f"of {target:.4g} for that step applies at once. To start "
                "slowly, shift `begin_step` and `end_step` by "
                f"{step}, or compile the model anew. "
                f"Received: schedule={schedule!r}",
                stacklevel=2,
            )


def _check_filters(filters: Filters) -> Filters:
    problem = ""
    if filters is None or callable(filters):
        return filters
    if isinstance(filters, str):
        try:
            re.compile(filters)
            return filters
        except re.error as error:
            problem = f" ({error})"
    raise SqueezeError(
        "Expected `filters` to be None, a regex or a callable(layer) -> bool"
        f"{problem}. Received: {filters!r}"
    )


def _check_frequency(frequency: Any) -> int:
    try:
        steps = int(frequency)
    except (TypeError, ValueError):
        steps = 0
    if steps < 1 or steps != frequency or isinstance(frequency, bool):
        raise SqueezeError(
            "Expected `frequency` to be an integer of at least 1. "
            f"Received: {frequency!r}"
        )
    return steps
