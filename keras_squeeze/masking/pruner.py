"""Pruning while a model trains, in whatever loop it trains."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras.src.utils import io_utils
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.late_start import warn_of_late_start
from keras_squeeze.masking.mask_choice import check_fit
from keras_squeeze.masking.masked_kernels import MaskedKernels
from keras_squeeze.masking.plan import PruningPlan, make_plan
from keras_squeeze.masking.step_counter import StepCounter
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.masking.update_times import UpdateTimes
from keras_squeeze.surgery.layer_tree import Filters, Kernel, check_built
from keras_squeeze.surgery.structure_version import structure_version


class Pruner:
    """Prunes a model while it trains: the driver behind the callbacks.

    Use it for a training loop of your own. `begin` puts a mask on every
    kernel, which the optimizer applies right after each update; `after_batch`
    renews the masks where the schedule asks for it; `finish` takes them off.
    A compiled step (`tf.function`) must be traced after `begin`.

    Args:
        model: A built `keras.Model`.
        schedule: When to prune how much: a `keras_squeeze.schedules` object,
            its config, a float for a constant sparsity, or a callable
            `step -> float`.
        criterion: Name, config or object that ranks the weights of a kernel.
            Defaults to `"magnitude"`.
        pattern: Name, config or object that chooses from the ranks. Defaults
            to `"unstructured"`.
        allocation: Name, config or object that shares the sparsity out among
            the kernels, or a dictionary of regexes and sparsities. Defaults
            to `"uniform"`.
        regrowth: Optional name, config or object that lets weights come back.
            Defaults to `None`: a pruned weight stays pruned while the
            sparsity does not fall.
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to all trainable kernels.
        frequency: Integer. Steps between changes of the masks. Defaults to
            `100`.
        seed: Integer. For what is drawn at random. Defaults to `0`.
        optimizer: The `keras.optimizers.Optimizer` of the loop. Defaults to
            the one the model is compiled with.
        steps_per_epoch: Integer. Needed if the schedule counts epochs.
            Defaults to `None`.

    Raises:
        SqueezeError: If an argument is not what is listed here.

    Example:
    ```python
    with ks.pruning.Pruner(model, schedule, optimizer=optimizer) as pruner:
        for x, y in batches:
            train_step(x, y)
            pruner.after_batch()
    ```
    """

    def __init__(
        self,
        model: Any,
        schedule: Any,
        criterion: Any = "magnitude",
        pattern: Any = "unstructured",
        allocation: Any = "uniform",
        regrowth: Any = None,
        filters: Filters = None,
        frequency: int = 100,
        seed: int = 0,
        optimizer: Any = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        plan = make_plan(
            schedule,
            criterion,
            pattern,
            allocation,
            regrowth,
            filters,
            frequency,
            seed,
        )
        self._start(model, plan, optimizer, steps_per_epoch)
        if not self._times.is_known:
            raise SqueezeError(
                "Expected `steps_per_epoch` with a schedule that counts "
                f"epochs. Received: {schedule!r}, steps_per_epoch=None"
            )

    @classmethod
    def from_plan(
        cls,
        model: Any,
        plan: PruningPlan,
        steps_per_epoch: int | None = None,
        name: str = "Pruner",
        verbose: int = 0,
    ) -> Pruner:
        """Makes the pruner of a callback.

        Args:
            model: The `keras.Model` in training.
            plan: `PruningPlan`.
            steps_per_epoch: Optional integer. While it is unknown, a schedule
                that counts epochs waits for `set_steps_per_epoch`.
            name: String. Who speaks in warnings.
            verbose: Integer. 1: a line for each change of the sparsity.

        Returns:
            `Pruner`.
        """
        pruner = cls.__new__(cls)
        pruner._start(model, plan, None, steps_per_epoch)
        pruner._name, pruner._verbose = name, verbose
        return pruner

    def _start(
        self,
        model: Any,
        plan: PruningPlan,
        optimizer: Any,
        steps_per_epoch: int | None,
    ) -> None:
        self.model, self.plan = model, plan
        self._optimizer = optimizer or getattr(model, "optimizer", None)
        self._times = UpdateTimes(plan.schedule, plan.frequency)
        self._name, self._verbose = type(self).__name__, 0
        self._masked: MaskedKernels | None = None
        #: What is saved with the model's weights, if anything must be.
        self.state = TrainingState()
        self._steps: StepCounter | None = None
        self._gathering_since = self._structure = 0
        #: The step at which the masks last changed, or `None`.
        self.updated_at: int | None = None
        #: The sparsity that the masks in force were made for.
        self.sparsity = 0.0
        self._trusted = False
        # Under JAX a compiled step holds a mask as a constant.
        self._assigns = keras.backend.backend() == "jax"
        if steps_per_epoch is not None:
            self._times.set_steps_per_epoch(steps_per_epoch)

    @property
    def is_attached(self) -> bool:
        """Whether masks are on the kernels."""
        return self._masked is not None

    @property
    def step(self) -> int:
        """The step of the training, as far as it had to be read."""
        return self._steps.step if self._steps is not None else 0

    @property
    def kernels(self) -> list[Kernel]:
        """The masked kernels, in model order; empty before `begin`."""
        return self._masked.kernels if self._masked is not None else []

    @property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """The masks in force by the kernels' paths, true where one stays."""
        if self._masked is None:
            return {}
        masks = self._masked.masks
        return {mask.kernel.path: mask.keep.copy() for mask in masks}

    @property
    def steps_per_epoch(self) -> int | None:
        """How many steps an epoch has, or `None` while it is not known."""
        return self._times.steps_per_epoch

    def set_steps_per_epoch(self, steps: int) -> None:
        """Tells how many steps an epoch has, for a schedule in epochs."""
        self._times.set_steps_per_epoch(steps)

    def __enter__(self) -> Pruner:
        self.begin()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.finish()

    def begin(self) -> None:
        """Puts the masks on and recovers those that are in force.

        Raises:
            UnbuiltModelError: If the model has no variables yet.
            SqueezeError: If no kernel can be pruned as planned.
        """
        self.attach()
        self.before_batch()

    def attach(self) -> None:
        """Puts the masks on; `begin` without looking at steps and weights.

        A checkpoint may still be loaded until the first `before_batch`.

        Raises:
            UnbuiltModelError: If the model has no variables yet.
            SqueezeError: If no kernel can be pruned as planned.
        """
        check_built(self.model)
        masked = MaskedKernels(self.model, self.plan, self._optimizer)
        check_fit(self.plan, masked.kernels, self._times.highest_sparsity())
        masked.attach()
        self._masked = masked
        if self._needs_state(masked):
            masked.register(self.state)
            self.state.add("progress", self._progress, self._set_progress)
            self.state.attach(self.model)
        if getattr(self.model, "compiled", False):
            # A step traced before would go on without the masks.
            self.model.make_train_function(force=True)
        self._structure = structure_version(self.model)

    def before_batch(self) -> None:
        """Says that a batch begins; needed by callbacks alone."""
        if self._steps is None:
            self._steps = StepCounter(self._optimizer)
            if self._masked is not None:
                self._resume(self._masked)
                self._steps.watch(self.kernels)
        self._follow_structure()
        if self._masked is not None:
            self._masked.statistics.record(True)

    def _follow_structure(self) -> None:
        """Masks the new kernels if layers were replaced in training."""
        version = structure_version(self.model)
        if self._masked is None or self._structure == version:
            return
        self.detach()
        self.state, self.updated_at = TrainingState(), None
        self.attach()
        self._gathering_since = self.read_step()
        self._update_if_due()

    def after_batch(self, batches: int = 1) -> None:
        """Keeps the masks where the optimizer does not, and renews them.

        Args:
            batches: Integer. How many batches were trained on since the last
                call. Defaults to `1`.

        Raises:
            SqueezeError: If the training gives none of the statistics that
                the criterion needs.
        """
        if self._steps is None:
            self._steps = StepCounter(self._optimizer)
        is_late = self._masked is None
        if is_late:
            self.attach()
            self._steps.watch(self.kernels)
        self._steps.advance(batches, self.kernels, self._times.next(self.step))
        if is_late:
            # The batch that built the model was not traced with the hooks.
            self._gathering_since = self.step
        self._enforce()
        self._update_if_due()

    def pause(self) -> None:
        """Says that what comes is no training: nothing is gathered."""
        if self._masked is not None:
            self._masked.statistics.record(False)

    def finish(self) -> None:
        """Applies the masks a last time and takes them off."""
        if self._masked is None:
            return
        # Averages (`use_ema=True`) were written after the last step.
        self._masked.apply()
        self.detach()

    def detach(self) -> None:
        """Takes the masks off as they are; `finish` without applying them."""
        if self._masked is None:
            return
        self._masked.detach()
        self.state.detach(self.model)
        self._masked = None
        if hasattr(self.model, "train_function"):
            # A step traced with the masks would go on with them.
            self.model.train_function = None

    def read_step(self) -> int:
        """The step of the training, read now whatever it costs."""
        if self._steps is None:
            return 0
        return self._steps.read(self.kernels)

    def _needs_state(self, masked: MaskedKernels) -> bool:
        # Otherwise masks are read off the weights: zeros were pruned.
        gathers = masked.statistics.gathers
        known = self._times.is_known
        return gathers or self.plan.regrowth is not None or not known

    def _progress(self) -> NDArray[np.int64]:
        updated_at = -1 if self.updated_at is None else self.updated_at
        steps = self.steps_per_epoch or -1
        return np.array([updated_at, self._gathering_since, steps])

    def _set_progress(self, values: NDArray[np.int64]) -> None:
        updated_at, self._gathering_since, steps = map(int, values)
        self.updated_at = None if updated_at < 0 else updated_at
        if not self._times.is_known and steps > 0:
            self.set_steps_per_epoch(steps)

    def _resume(self, masked: MaskedKernels) -> None:
        times = self._times
        if self.state.restored:
            masked.reload()
            self.sparsity = times.sparsity(self.updated_at)
            return
        self._gathering_since = self.step
        if times.schedule is not None:
            warn_of_late_start(self._name, times.schedule, self.step, masked)
        if not (self.plan.regrowth or masked.statistics.gathers):
            # Whatever the criterion, weights found pruned were pruned.
            self._update_if_due(zeros_are_pruned=True)
            return
        due = times.last(self.step)
        sparsity = times.sparsity(due)
        if sparsity:
            masked.recover()
            if masked.has_sparsity(sparsity):
                self.updated_at, self.sparsity = due, sparsity
        self._update_if_due()

    def _update_if_due(self, zeros_are_pruned: bool = False) -> None:
        masked, due = self._masked, self._times.last(self.step)
        if masked is None or due is None or due == self.updated_at:
            return
        sparsity = self._times.sparsity(due)
        if masked.needs_statistics(sparsity) and not self._are_gathered(masked):
            return
        if not self._assigns and masked.is_violated():
            self._fall_back()
        masked.update(sparsity, due, self._times.end_step, zeros_are_pruned)
        self.updated_at, self._gathering_since = due, self.step
        if self._verbose and sparsity != self.sparsity:
            io_utils.print_msg(
                f"\nStep {self.step}: {self._name} setting sparsity to "
                f"{sparsity:.4g}."
            )
        self.sparsity = sparsity

    def _are_gathered(self, masked: MaskedKernels) -> bool:
        missing = masked.statistics.missing()
        if missing and self.step > self._gathering_since:
            raise SqueezeError(
                f"Expected the training steps to give {self._name} "
                f"{', '.join(self.plan.statistics)} of every kernel: the "
                "optimizer must be applied to its gradients, and its layer "
                "called; exclude other kernels by `filters`. Received: "
                f"none of {', '.join(missing)}, from step "
                f"{self._gathering_since} to {self.step}"
            )
        return not missing

    def _enforce(self) -> None:
        """Applies the masks here if the training step does not."""
        if self._masked is None:
            return
        if self.sparsity and not self._trusted and not self._assigns:
            # Later violations are seen where an update reads the weights.
            self._trusted = True
            if self._masked.is_violated():
                self._fall_back()
        if self._assigns:
            self._masked.apply()

    def _fall_back(self) -> None:
        if self.plan.keeps_pruned_weights:
            raise SqueezeError(
                "Expected a training step that changes weights by its "
                "optimizer's `apply`, where the values of pruned weights are "
                f"kept. Received: regrowth={self.plan.regrowth!r} with a step "
                "that changes them otherwise"
            )
        self._assigns = True
        warnings.warn(
            f"{self._name}: the model's `train_step` changes weights "
            "without its optimizer's `apply`, so that constraints are not "
            "applied; the masks are assigned after each batch instead.",
            stacklevel=2,
        )
