"""Kernels become products of smaller ones while a model trains."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.utils import io_utils

from keras_squeeze import schedules
from keras_squeeze.callbacks.kernel_regularization import KernelRegularization
from keras_squeeze.callbacks.live_surgery import LiveSurgery, check_count
from keras_squeeze.errors import SqueezeError
from keras_squeeze.factorizing.live_factorization import LiveFactorization
from keras_squeeze.factorizing.planning import check_arguments
from keras_squeeze.low_rank.kernel_info import Choice, Skip
from keras_squeeze.surgery.layer_tree import Filters


class LowRankFactorization(LiveSurgery):
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
        check_arguments(rank, energy, budget, method, min_saving)
        super().__init__(begin_epoch, begin_step, filters, verbose)
        if frequency is not None:
            check_count("frequency", frequency, 1)
        if moments not in ("project", "reset"):
            raise SqueezeError(
                "Expected `moments` to be 'project' or 'reset'. Received: "
                f"moments={moments!r}"
            )
        self.rank, self.energy, self.budget = rank, energy, budget
        self.method = method
        self.schedule = None if schedule is None else schedules.get(schedule)
        self.frequency, self.min_saving = frequency, min_saving
        self.regularizer = keras.regularizers.get(regularizer)
        self.moments, self.seed = moments, seed
        self._preparation: KernelRegularization | None = None

    def _make_live(self, model: Any, number: int) -> LiveFactorization:
        carry = self.moments == "project"
        return LiveFactorization(model, carry, self.seed, number)

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

    def _close(self) -> None:
        self._end_preparation()
        super()._close()

    def _end_preparation(self) -> None:
        if self._preparation is not None:
            self._preparation.detach()
            self._preparation = None

    def _replace(self) -> None:
        live = self._running()
        if live.is_done:
            return
        self._end_preparation()
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

    def _begin_next_epoch(self) -> None:
        if self.frequency is None:
            self._truncate()

    def _next_step_after(self, step: int) -> int | None:
        if self.frequency is None or self.schedule is None:
            return None
        return (step // self.frequency + 1) * self.frequency

    def _after_step(self, before: int, after: int) -> None:
        every = self.frequency
        if every is not None and after // every > before // every:
            self._truncate()

    def _after_replacement(self) -> None:
        self._truncate()

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
        return float(self._step())


def _described(choice: Choice | Skip) -> str:
    if isinstance(choice, Skip):
        return f"kept, {choice.reason}"
    ranks = ", ".join(map(str, choice.ranks))
    return (
        f"{choice.method}, rank {ranks}, {choice.parameters:,} parameters "
        f"instead of {choice.parameters_before:,} ({-choice.saving:.1%})"
    )
