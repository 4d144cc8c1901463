"""All masks of one pruning, and what they are chosen from."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NoKernelMatchedError, SqueezeError
from keras_squeeze.masking.kernel_mask import (
    KernelMask,
    make_masks,
    zero_share,
)
from keras_squeeze.masking.mask_choice import (
    KernelValues,
    choose_masks,
    is_dense,
)
from keras_squeeze.masking.optimizer_slots import (
    clear_slots,
    find_average,
    mixes_rows,
)
from keras_squeeze.masking.plan import PruningPlan, needed
from keras_squeeze.masking.statistics import Statistics
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.surgery.layer_tree import Kernel, find_kernels, to_numpy


class MaskedKernels:
    """The kernels of a model that a plan prunes, each with its mask.

    Args:
        model: A built `keras.Model` in training.
        plan: `PruningPlan`.
        optimizer: The `keras.optimizers.Optimizer` in training, or `None`.

    Raises:
        NoKernelMatchedError: If no trainable kernel is left.
        SqueezeError: If a statistic cannot be had, or another pruning masks
            one of the kernels.
    """

    def __init__(self, model: Any, plan: PruningPlan, optimizer: Any) -> None:
        _check_backend(plan)
        self._plan, self._optimizer = plan, optimizer
        kernels = _trainable_kernels(model, plan)
        self.statistics = Statistics(model, kernels, plan.statistics, optimizer)
        #: List of `KernelMask`, in model order.
        self.masks = make_masks(
            model,
            self.statistics.kernels,
            optimizer,
            plan.keeps_pruned_weights,
        )
        self.statistics.set_shadows(
            {mask.kernel.path: mask.shadow for mask in self.masks}
        )

    @property
    def kernels(self) -> list[Kernel]:
        """The masked kernels, in model order."""
        return [mask.kernel for mask in self.masks]

    def attach(self) -> None:
        """Puts masks and hooks in place."""
        for mask in self.masks:
            mask.attach()
        self.statistics.attach()

    def detach(self) -> None:
        """Takes masks and hooks off."""
        self.statistics.detach()
        for mask in self.masks:
            mask.detach()

    def apply(self) -> None:
        """Sets the pruned weights of all kernels to zero."""
        for mask in self.masks:
            mask.apply()

    def register(self, state: TrainingState) -> None:
        """Makes masks and statistics part of what is saved."""
        for mask in self.masks:
            state.add_variable(f"{mask.kernel.path}:mask", mask.variable)
            if mask.shadow is not None:
                state.add_variable(f"{mask.kernel.path}:shadow", mask.shadow)
        self.statistics.register(state)

    def reload(self) -> None:
        """Takes over the masks that were restored into their variables."""
        for mask in self.masks:
            mask.keep = to_numpy(mask.variable)

    def is_violated(self) -> bool:
        """Whether a pruned weight is not zero."""
        return any(mask.is_violated_by(mask.weights()) for mask in self.masks)

    def zero_share(self) -> float:
        """The share of zeros in all kernels together."""
        return zero_share([mask.weights() for mask in self.masks])

    def has_sparsity(self, sparsity: float) -> bool:
        """Whether as many weights are zero, but for rounding in a kernel."""
        sizes = [mask.keep.size for mask in self.masks]
        return self.zero_share() >= sparsity - len(sizes) / sum(sizes)

    def needs_statistics(self, sparsity: float) -> bool:
        """Whether masks of that sparsity need what training steps gather."""
        if not self.statistics.gathers:
            return False
        if is_dense(self._plan, self.kernels, sparsity):
            return False
        return bool(needed(self._plan.criterion)) or not all(
            mask.keep.all() for mask in self.masks
        )

    def update(
        self,
        sparsity: float,
        step: int,
        end_step: int | None,
        zeros_are_pruned: bool = False,
    ) -> None:
        """Chooses all masks anew and applies them; or changes nothing.

        Args:
            sparsity: Float in `[0, 1)`.
            step: Integer. The step at which the masks change.
            end_step: Optional integer. The step of the last change.
            zeros_are_pruned: Boolean. Whether weights found zero count as
                pruned before. Defaults to `False`.
        """
        gathered = self.statistics.read()
        values = [
            _values(mask, one, zeros_are_pruned)
            for mask, one in zip(self.masks, gathered, strict=True)
        ]
        keeps = choose_masks(self._plan, values, sparsity, step, end_step)
        for mask, one, keep in zip(self.masks, values, keeps, strict=True):
            self._assign(mask, keep, one.weights)
        self.statistics.reset()

    def recover(self) -> None:
        """Takes the weights that are zero for pruned ones."""
        for mask in self.masks:
            weights = mask.weights()
            keep = weights != 0
            if keep.any():
                self._assign(mask, keep, weights)

    def _assign(
        self,
        mask: KernelMask,
        keep: NDArray[np.bool_],
        weights: NDArray[Any],
    ) -> None:
        grown = keep & ~mask.keep
        mask.assign(keep, weights)
        variable = mask.kernel.variable
        average = find_average(self._optimizer, variable)
        if average is not None and not keep.all():
            # Within a step the constraint does it, but an evaluation under
            # `SwapEMAWeights` may come before the next.
            average.assign(np.where(keep, to_numpy(average), 0))
        if mask.shadow is not None:
            # Pruned weights followed their momentum all the while.
            grown[:] = False
        if mixes_rows(self._optimizer):
            grown |= ~keep
        if grown.any() and self._optimizer is not None:
            clear_slots(self._optimizer, variable, grown)


def _values(
    mask: KernelMask,
    statistics: dict[str, NDArray[Any]],
    zeros_are_pruned: bool,
) -> KernelValues:
    weights = mask.weights()
    keep = weights != 0 if zeros_are_pruned else mask.keep
    full = mask.full_weights(weights)
    return KernelValues(mask.kernel, full, keep, statistics)


def _trainable_kernels(model: Any, plan: PruningPlan) -> list[Kernel]:
    kernels = find_kernels(model, plan.filters)
    trained = [kernel for kernel in kernels if kernel.variable.trainable]
    if not trained:
        raise NoKernelMatchedError(
            "Expected `filters` to match at least one trainable kernel. "
            f"Received: filters={plan.filters!r}, which matches "
            f"{[kernel.path for kernel in kernels]}, all frozen"
        )
    return trained


def _check_backend(plan: PruningPlan) -> None:
    backend = keras.backend.backend()
    if plan.keeps_pruned_weights and backend == "jax":
        raise SqueezeError(
            "Expected Keras to run on TensorFlow or PyTorch: under JAX a "
            "compiled step cannot keep the values of pruned weights. "
            f"Received: regrowth={plan.regrowth!r}, backend={backend!r}"
        )
