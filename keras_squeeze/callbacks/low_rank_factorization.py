"""Kernels become products of smaller ones while a model trains."""

from __future__ import annotations

import warnings
from typing import Any

import keras
from keras.src.utils import io_utils

from keras_squeeze import schedules
from keras_squeeze.callbacks.kernel_regularization import KernelRegularization
from keras_squeeze.errors import SqueezeError
from keras_squeeze.factorizing.live_factorization import LiveFactorization
from keras_squeeze.factorizing.planning import check_arguments
from keras_squeeze.low_rank.kernel_info import Choice, Skip
from keras_squeeze.masking.callback_order import (
    find_callbacks,
    warn_of_savers_before,
)
from keras_squeeze.masking.step_counter import StepCounter
from keras_squeeze.surgery.layer_tree import Filters
from keras_squeeze.surgery.structure_state import find_backup


class LowRankFactorization(keras.callbacks.Callback):
    """Replaces kernels by products of smaller ones inside a running `fit`.

    At its epoch or step every matched layer becomes its low-rank class in
    place (`Dense` becomes `LowRankDense`), which holds a chain of two or
    three stock layers instead of one kernel. From then on the steps compute
    and the files hold the factors only. The model object, its other
    variables, the history, the metrics, the learning rate and
    `optimizer.iterations` go on as they were; the optimizer's momenta of a
    kernel are projected onto its factors, those of other variables stay bit
    for bit. Nothing has to be compiled again by the user; Keras traces the
    step once more.

    A layer is factorized only where that saves parameters and
    multiply-adds. Which ranks remain is said by `rank`, `energy` or `budget`,
    one of them.

    The ranks can go on falling: `schedule` says which share of the ranks
    chosen first is gone at a step. They are truncated within the factors,
    without a decomposition of the whole kernel. Each fall compiles the step
    anew, so ranks are renewed at the beginning of an epoch unless
    `frequency` asks for more.

    A training that was killed goes on where it stood under
    `BackupAndRestore`: the structure is made again before the weights are
    restored, for which this callback must stand before `BackupAndRestore`
    in the list; a warning tells if it does not. Weights kept from before the
    change fit no longer: `EarlyStopping(restore_best_weights=True)` needs a
    `start_from_epoch` behind `begin_epoch`.

    At the end of every epoch `parameters`, the model's number of weights, and
    `effective_rank` are logged: the squared Frobenius norm of a kernel over
    its squared largest singular value, averaged over the kernels in question.

    Args:
        rank: Which rank a kernel gets: an integer, a float in (0, 1] for a
            share of the full rank, the name, config or object of a rank rule
            (`"vbmf"`, `"gavish_donoho"`, `"marchenko_pastur"`), or a
            dictionary of regexes, searched in the layers' paths, and any of
            these. Defaults to `None`.
        energy: Float in (0, 1]. The share of the squared singular values that
            a kernel keeps. Defaults to `None`.
        budget: What the whole model may cost, spread over the layers where
            it hurts least: a float for a share of its parameters, or a
            dictionary with one of `"parameters"`, `"bytes"` or `"flops"`, an
            integer or a share. Defaults to `None`.
        method: String. `"svd"` for matrices; `"channel_svd"`,
            `"spatial_svd"`, `"tucker2"` or `"cp"` for convolutions; `"auto"`
            takes the cheapest at the error allowed. Defaults to `"auto"`.
        begin_epoch: Integer. At the beginning of this epoch, counted from
            zero, kernels are replaced. Defaults to `1`.
        begin_step: Optional integer. The step (`optimizer.iterations`) after
            which kernels are replaced, instead of an epoch. Defaults to
            `None`.
        schedule: Optional `keras_squeeze.schedules` object, its config or a
            callable: the share of the ranks first chosen that is gone at a
            step or an epoch. Defaults to `None`.
        frequency: Optional integer. Steps between falls of the ranks.
            Defaults to `None`: at the beginning of each epoch.
        regularizer: Optional `keras.regularizers.Regularizer`, its config or
            name, for the kernels in question until they are replaced, as
            `ks.regularizers.NuclearNorm(1e-4)`. Defaults to `None`.
        filters: Optional regex, searched in the layers' and kernels' paths,
            or callable `layer -> bool`. Defaults to `None`: all Dense,
            EinsumDense, Embedding and convolutional layers.
        min_saving: Float in [0, 1). The share of its parameters that a layer
            must save to be factorized. Defaults to `0.1`: two layers
            of hardly fewer multiplications take longer than one.
        moments: String. `"project"` hands the optimizer's momenta on to the
            factors, `"reset"` begins with fresh ones. Defaults to
            `"project"`.
        seed: Integer. For methods that begin at random. Defaults to `0`.
        verbose: Integer. 1: a line for each layer that changes. Defaults to
            `0`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    low_rank = ks.callbacks.LowRankFactorization(energy=0.95, begin_epoch=2)
    model.fit(x, y, epochs=10, callbacks=[low_rank])
    ```

    References:
        [Denton et al., 2014](https://arxiv.org/abs/1404.0736),
        [Koltchinskii and Lounici, 2017](https://arxiv.org/abs/1405.2468) for
        the effective rank.
    """

    def __init__(
        self,
        rank: Any = None,
        energy: float | None = None,
        budget: Any = None,
        method: str = "auto",
        begin_epoch: int = 1,
        begin_step: int | None = None,
        schedule: Any = None,
        frequency: int | None = None,
        regularizer: Any = None,
        filters: Filters = None,
        min_saving: float = 0.1,
        moments: str = "project",
        seed: int = 0,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        check_arguments(rank, energy, budget, method, min_saving)
        _check_count("begin_epoch", begin_epoch, 0)
        _check_count("begin_step", begin_step, 0)
        _check_count("frequency", frequency, 1)
        if moments not in ("project", "reset"):
            raise SqueezeError(
                "Expected `moments` to be 'project' or 'reset'. Received: "
                f"moments={moments!r}"
            )
        self.rank, self.energy, self.budget = rank, energy, budget
        self.method, self.filters = method, filters
        self.begin_epoch, self.begin_step = begin_epoch, begin_step
        self.schedule = None if schedule is None else schedules.get(schedule)
        self.frequency, self.min_saving = frequency, min_saving
        self.regularizer = keras.regularizers.get(regularizer)
        self.moments, self.seed, self.verbose = moments, seed, verbose
        #: The `LiveFactorization` of the training that runs or ran last.
        self.live: LiveFactorization | None = None
        self._preparation: KernelRegularization | None = None
        self._steps: StepCounter | None = None
        self._first_batch = 0
        self._epoch = 0
        self._waits_for_build = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes the structure again that a backup to be restored has."""
        model = self._trained_model()
        warn_of_savers_before(self)
        self._warn_of_early_stopping()
        self._close()
        if self.live is None or self.live.model is not model:
            alike = find_callbacks(self, LowRankFactorization)
            self.live = LiveFactorization(
                model,
                self.moments == "project",
                self.seed,
                alike.index(self) if self in alike else 0,
            )
        self.live.begin(find_backup(self))
        self._prepare()
        self._steps = None

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Replaces kernels, or lets ranks fall, if it is time."""
        self._epoch = epoch
        live = self._running()
        if self.begin_step is None and epoch >= self.begin_epoch:
            # Keras builds some models in their first batch only.
            self._waits_for_build = not self._trained_model().built
            if not self._waits_for_build:
                self._replace()
        if live.is_done and self.frequency is None:
            self._truncate()

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
        """Replaces kernels, or lets ranks fall, if it is time."""
        self._prepare()
        if self._waits_for_build:
            self._waits_for_build = False
            self._replace()
        if self._steps is None:
            return
        before = self._steps.step
        self._steps.advance(
            max(1, batch - self._first_batch + 1), [], self._next_step(before)
        )
        self._after_step(before, self._steps.step)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs `parameters` and `effective_rank`."""
        if logs is not None:
            logs.update(self._running().figures(self.filters))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes off what was attached; the low-rank layers stay."""
        if self.live is not None and not self.live.is_done:
            warnings.warn(
                f"{type(self).__name__}: the training ended before kernels "
                f"were to be replaced. Received: begin_epoch="
                f"{self.begin_epoch}, begin_step={self.begin_step}",
                stacklevel=2,
            )
        self._close()

    def _close(self) -> None:
        if self._preparation is not None:
            self._preparation.detach()
            self._preparation = None
        if self.live is not None:
            self.live.end()

    def _prepare(self) -> None:
        """Puts the regularizer on, once, as soon as there are kernels."""
        model = self._trained_model()
        is_over = self._preparation is not None or self._running().is_done
        if self.regularizer is None or is_over or not model.built:
            return
        self._preparation = KernelRegularization(
            model, self.regularizer, self.filters
        )
        self._preparation.attach()

    def _replace(self) -> None:
        live = self._running()
        if live.is_done:
            return
        if self._preparation is not None:
            self._preparation.detach()
            self._preparation = None
        live.factorize(
            self.rank,
            self.energy,
            self.budget,
            self.method,
            self.filters,
            self.min_saving,
        )
        if self.verbose:
            for path, choice in live.choices:
                line = f"{type(self).__name__}: {path}: {_described(choice)}"
                io_utils.print_msg(line)

    def _truncate(self) -> None:
        if self.schedule is None:
            return
        changed = self._running().truncate(self.schedule(self._time()))
        if self.verbose and changed:
            named = ", ".join(f"{path} {ranks}" for path, ranks in changed)
            io_utils.print_msg(f"{type(self).__name__}: ranks fall: {named}")

    def _time(self) -> float:
        if getattr(self.schedule, "unit", "steps") == "epochs":
            return float(self._epoch)
        steps = self._steps or StepCounter(self._trained_model().optimizer)
        return float(steps.step)

    def _waits_for_steps(self) -> bool:
        waits = self.begin_step is not None and not self._running().is_done
        return waits or (
            self.schedule is not None and self.frequency is not None
        )

    def _next_step(self, step: int) -> int | None:
        if not self._running().is_done:
            return self.begin_step
        if self.frequency is None or self.schedule is None:
            return None
        return (step // self.frequency + 1) * self.frequency

    def _after_step(self, before: int, after: int) -> None:
        if not self._running().is_done:
            if self.begin_step is not None and after >= self.begin_step:
                self._replace()
                self._truncate()
            return
        every = self.frequency
        if every is not None and after // every > before // every:
            self._truncate()

    def _warn_of_early_stopping(self) -> None:
        for other in find_callbacks(self, keras.callbacks.EarlyStopping):
            begins = self.begin_epoch if self.begin_step is None else 0
            if other.restore_best_weights and other.start_from_epoch < begins:
                warnings.warn(
                    f"{type(self).__name__}: weights kept from before the "
                    "kernels are replaced cannot be restored. Expected "
                    f"EarlyStopping(start_from_epoch={begins}) or later. "
                    f"Received: start_from_epoch={other.start_from_epoch}",
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

    def _running(self) -> LiveFactorization:
        if self.live is None:
            raise SqueezeError(
                "Expected `on_train_begin()` before any other method of "
                f"{type(self).__name__}. Received: no training"
            )
        return self.live


def _described(choice: Choice | Skip) -> str:
    if isinstance(choice, Skip):
        return f"kept, {choice.reason}"
    ranks = ", ".join(map(str, choice.ranks))
    return (
        f"{choice.method}, rank {ranks}, {choice.parameters:,} parameters "
        f"instead of {choice.parameters_before:,} ({-choice.saving:.1%})"
    )


def _check_count(name: str, value: Any, least: int) -> None:
    if value is None and name != "begin_epoch":
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SqueezeError(
            f"Expected `{name}` to be an integer of at least {least}. "
            f"Received: {name}={value!r}"
        )
