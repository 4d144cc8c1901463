"""Pruning by any criterion and pattern while a model trains."""

from __future__ import annotations

from typing import Any

import keras

from keras_squeeze.callbacks.live_surgery import LiveSurgery
from keras_squeeze.errors import (
    NoKernelMatchedError,
    SqueezeError,
    UnbuiltModelError,
)
from keras_squeeze.masking.callback_order import (
    find_callbacks,
    warn_of_savers_before,
)
from keras_squeeze.masking.kernel_mask import sparsity_under_masks
from keras_squeeze.masking.plan import make_plan
from keras_squeeze.masking.pruner import Pruner
from keras_squeeze.surgery.layer_tree import Filters, find_kernels


class Pruning(keras.callbacks.Callback):
    """Sets a growing share of a model's weights to zero while it trains.

    Every kernel gets a boolean mask, applied by the optimizer right after
    each update inside the compiled step: at the end of every batch the pruned
    weights are exactly zero. The layers, their configs and the final files
    stay those of the plain model. When training ends the masks are applied a
    last time and taken off; the model's own constraints are put back.

    Which weights go is up to the `criterion`, in which shapes to the
    `pattern`, how many of each kernel to the `allocation`, and whether they
    may come back to the `regrowth`. What a criterion needs of gradients or
    layers' inputs is gathered inside the compiled step, as a mean over the
    steps since the masks last changed; a first mask that needs it waits for
    the first step that gives it. Weights that are pruned stay pruned while
    the sparsity does not fall, unless there is a regrowth; with it, the
    optimizer's momentum of a weight that grows back is cleared. Masks no
    longer change after the schedule's `end_step`.

    The step is `model.optimizer.iterations`, saved with the model. It goes on
    counting in a second `fit`: weights found zero are then taken for pruned,
    gathered statistics and the values of pruned weights begin anew. To start
    from step zero, compile the model anew, or shift the schedule's
    `begin_step`.

    A training that was killed goes on where it stood under
    `BackupAndRestore`, with equal masks and weights: what cannot be read off
    the weights is saved beside them by `save_weights` during the training, in
    a group of its own that plain Keras ignores. Put the callback before
    `ModelCheckpoint` and `BackupAndRestore` in the list; a warning tells if
    it is not. `EarlyStopping` with `restore_best_weights` should begin after
    the schedule's end (`start_from_epoch`).

    Moving averages (`use_ema=True`, `SwapEMAWeights`) are masked with the
    weights. Under `steps_per_execution` masks change between executions. A
    `train_step` that changes weights without the optimizer's `apply` has its
    masks assigned after each batch; criteria of gradients are refused there.
    Gradients are gathered on the TensorFlow backend only.

    The share of zeros in the masked kernels is logged as `sparsity` at the
    end of every epoch.

    Args:
        schedule: When to prune how much: a `keras_squeeze.schedules` object,
            its config, a float for a constant sparsity, a callable
            `step -> float`, or a schedule of TensorFlow Model Optimization,
            whose own `frequency` then holds. A schedule that counts epochs
            waits for the end of the first where the number of batches is not
            known before.
        criterion: Name, config or object that ranks the weights of a kernel.
            Defaults to `"magnitude"`. Under `"batch_norm_scale"` kernels that
            no `BatchNormalization` follows keep all their weights; a warning
            names them.
        pattern: Name, config or object that chooses from the ranks. Defaults
            to `"unstructured"`.
        allocation: Name, config or object that shares the sparsity out among
            the kernels, or a dictionary of regexes and sparsities. Defaults
            to `"uniform"`.
        regrowth: Optional name, config or object that lets weights grow back.
            Defaults to `None`.
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to `None`: the kernels of all Dense,
            convolutional, Embedding, EinsumDense and recurrent layers.
            Kernels that are not trainable are left alone.
        frequency: Integer. Steps between changes of the masks. Defaults to
            `100`.
        seed: Integer. For what is drawn at random. Defaults to `0`.
        verbose: Integer. 0: quiet, 1: a line for each change of the sparsity.
            Defaults to `0`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    schedule = ks.schedules.PolynomialDecay(0.0, 0.5, 0, 2000)
    pruning = ks.callbacks.Pruning(
        schedule, criterion="taylor", pattern="channel", allocation="global"
    )
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
        allocation: Any = "uniform",
        regrowth: Any = None,
        filters: Filters = None,
        frequency: int = 100,
        seed: int = 0,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self.plan = make_plan(
            schedule,
            criterion,
            pattern,
            allocation,
            regrowth,
            filters,
            frequency,
            seed,
        )
        self.verbose = verbose
        #: The `Pruner` of the training that runs or ran last, or `None`.
        self.pruner: Pruner | None = None
        self._first_batch = 0
        self._epoch_began_at: int | None = None
        self._waits_for_kernels = False

    @property
    def schedule(self) -> Any:
        """The `Schedule`."""
        return self.plan.schedule

    @property
    def criterion(self) -> Any:
        """The `Criterion`."""
        return self.plan.criterion

    @property
    def pattern(self) -> Any:
        """The `Pattern`."""
        return self.plan.pattern

    @property
    def allocation(self) -> Any:
        """The `Allocation`."""
        return self.plan.allocation

    @property
    def regrowth(self) -> Any:
        """The `Regrowth`, or `None`."""
        return self.plan.regrowth

    @property
    def filters(self) -> Filters:
        """Which kernels are pruned; `None` for all."""
        return self.plan.filters

    @property
    def frequency(self) -> int:
        """Steps between changes of the masks."""
        return self.plan.frequency

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts masks on the kernels, if the model has them already."""
        model = self._trained_model()
        if self.pruner is not None:
            self.pruner.detach()
        self._epoch_began_at = None
        self._waits_for_kernels = False
        self.pruner = Pruner.from_plan(
            model,
            self.plan,
            self._steps_per_epoch(model),
            type(self).__name__,
            self.verbose,
        )
        warn_of_savers_before(self)
        try:
            self.pruner.attach()
        except UnbuiltModelError:
            # Keras builds it in the first batch; the masks come after that.
            return
        except NoKernelMatchedError:
            if not find_callbacks(self, LiveSurgery):
                raise
            # All kernels are codes; training on their grids makes floats.
            self._waits_for_kernels = True

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Recovers the masks in force, once other callbacks have restored."""
        self._first_batch = batch
        pruner = self._running_pruner()
        if self._waits_for_kernels:
            self._waits_for_kernels = False
            pruner.attach()
        pruner.before_batch()
        if self._epoch_began_at is None and pruner.steps_per_epoch is None:
            self._epoch_began_at = pruner.read_step()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Keeps the masks where the optimizer does not, and renews them."""
        pruner = self._running_pruner()
        pruner.after_batch(max(1, batch - self._first_batch + 1))
        pruner.pause()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs the share of zeros as `sparsity`."""
        pruner = self._running_pruner()
        if self._epoch_began_at is not None and pruner.steps_per_epoch is None:
            steps = pruner.read_step() - self._epoch_began_at
            pruner.set_steps_per_epoch(max(1, steps))
        if logs is not None and pruner.is_attached:
            kernels = find_kernels(self._trained_model())
            logs["sparsity"] = sparsity_under_masks(kernels)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Applies the masks a last time and takes them off."""
        self._running_pruner().finish()

    def _trained_model(self) -> Any:
        model = self.model
        if model is None:
            raise SqueezeError(
                "Expected a model: pass the callback to `model.fit(callbacks="
                "[...])`, or call `set_model(model)` first. Received: "
                "model=None"
            )
        return model

    def _running_pruner(self) -> Pruner:
        if self.pruner is None:
            raise SqueezeError(
                "Expected `on_train_begin()` before any other method of "
                f"{type(self).__name__}. Received: no training"
            )
        return self.pruner

    def _steps_per_epoch(self, model: Any) -> int | None:
        batches = (self.params or {}).get("steps")
        if batches is None:
            return None
        optimizer = getattr(model, "optimizer", None)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        accumulated = getattr(inner, "gradient_accumulation_steps", None) or 1
        # `optimizer.iterations` counts updates, not batches.
        return max(1, int(batches) // accumulated)
