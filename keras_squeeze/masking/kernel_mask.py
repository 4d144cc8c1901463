"""The mask of one kernel of a model that is in training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.constraints import MaskConstraint
from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking.optimizer_slots import find_average
from keras_squeeze.masking.training_mask import SplicingMask, TrainingMask
from keras_squeeze.surgery.layer_tree import Kernel, to_numpy


class KernelMask:
    """Puts a mask on a kernel, changes it, and takes it off again.

    Args:
        kernel: The `Kernel` to mask. It starts with every weight kept.
        history: The `keras.callbacks.History` of this fit, or `None`.
        optimizer: The `keras.optimizers.Optimizer` in training, or `None`.
        keeps_pruned_weights: Boolean. Whether pruned weights keep the values
            they would have. Defaults to `False`.

    Raises:
        SqueezeError: If another callback of this fit masks the same kernel.
    """

    def __init__(
        self,
        kernel: Kernel,
        history: Any = None,
        optimizer: Any = None,
        keeps_pruned_weights: bool = False,
    ) -> None:
        inner = _inner_constraint(kernel, history)
        self.kernel = kernel
        # Held here too: reading it back from a device would cost as much as
        # choosing it.
        self.keep: NDArray[np.bool_] = np.ones(kernel.variable.shape, bool)
        self.variable = _variable_like(kernel, self.keep, "mask")
        arguments = (
            self.variable,
            inner,
            history,
            lambda: find_average(optimizer, kernel.variable),
        )
        self.shadow: Any | None = None
        self._constraint = TrainingMask(*arguments)
        if keeps_pruned_weights:
            zeros = np.zeros_like(to_numpy(kernel.variable))
            self.shadow = _variable_like(kernel, zeros, "shadow")
            self._constraint = SplicingMask(self.shadow, *arguments)
        # Without `inner`: a constraint of the user's runs once a step.
        self._mask_alone = MaskConstraint(self.variable)

    def attach(self) -> None:
        """Makes the mask the kernel's constraint."""
        self.kernel.variable.constraint = self._constraint

    def detach(self) -> None:
        """Puts the user's own constraint, or none, back."""
        if self.kernel.variable.constraint is self._constraint:
            self.kernel.variable.constraint = self._constraint.inner

    def assign(self, keep: NDArray[np.bool_], weights: NDArray[Any]) -> None:
        """Replaces the mask and applies it.

        Args:
            keep: Boolean array of the kernel's shape, true where a weight
                stays.
            weights: Array, the kernel's weights as they are, with those that
                pruned weights keep.
        """
        self.keep = keep
        self.variable.assign(keep)
        if self.shadow is None:
            # On the device: only the mask had to go there.
            self.apply()
            return
        zero = weights.dtype.type(0)
        self.shadow.assign(np.where(keep, zero, weights))
        self.kernel.variable.assign(np.where(keep, weights, zero))

    def apply(self) -> None:
        """Sets the pruned weights of the kernel to zero."""
        if not self.keep.all():
            variable = self.kernel.variable
            variable.assign(self._mask_alone(variable))

    def is_violated_by(self, weights: NDArray[Any]) -> bool:
        """Whether a weight outside the mask is not zero."""
        return bool(np.any(np.logical_and(weights, ~self.keep)))

    def weights(self) -> NDArray[Any]:
        """The kernel's weights as an array: zeros where it is pruned."""
        return to_numpy(self.kernel.variable)

    def full_weights(self, weights: NDArray[Any]) -> NDArray[Any]:
        """The weights with the values that pruned ones keep, if they do."""
        if self.shadow is None:
            return weights
        return np.where(self.keep, weights, to_numpy(self.shadow))


def make_masks(
    model: Any,
    kernels: list[Kernel],
    optimizer: Any = None,
    keeps_pruned_weights: bool = False,
) -> list[KernelMask]:
    """Makes masks where the model's variables live.

    Args:
        model: The `keras.Model` in training.
        kernels: List of `Kernel`.
        optimizer: The `keras.optimizers.Optimizer` in training, or `None`.
        keeps_pruned_weights: Boolean. Defaults to `False`.

    Returns:
        List of `KernelMask`, in the order of `kernels`; none is attached.

    Raises:
        SqueezeError: If another callback of this fit masks one of them.
    """
    history = getattr(model, "history", None)
    with variable_scope(model):
        return [
            KernelMask(kernel, history, optimizer, keeps_pruned_weights)
            for kernel in kernels
        ]


def sparsity_under_masks(kernels: list[Kernel]) -> float:
    """The share of zeros in all kernels that hold a mask, whoever made it."""
    masked = [
        to_numpy(kernel.variable)
        for kernel in kernels
        if isinstance(kernel.variable.constraint, MaskConstraint)
    ]
    return zero_share(masked)


def zero_share(arrays: list[NDArray[Any]]) -> float:
    """The share of zeros in all arrays together; `0.0` if there is none."""
    size = sum(array.size for array in arrays)
    nonzero = sum(int(np.count_nonzero(array)) for array in arrays)
    return 1.0 - nonzero / size if size else 0.0


@contextlib.contextmanager
def variable_scope(model: Any) -> Iterator[None]:
    """Where TensorFlow distributes a model, its masks must be mirrored too."""
    strategy = getattr(model, "_distribute_strategy", None)
    if strategy is None:
        yield
    else:
        with strategy.scope():
            yield


def _inner_constraint(kernel: Kernel, history: Any) -> Any:
    constraint = kernel.variable.constraint
    if not isinstance(constraint, TrainingMask):
        return constraint
    if constraint.belongs_to(history):
        raise SqueezeError(
            "Expected every kernel to be matched by the `filters` of one "
            f"pruning callback only. Received: {kernel.path}, matched by two "
            "callbacks"
        )
    return constraint.inner


def _variable_like(kernel: Kernel, value: NDArray[Any], suffix: str) -> Any:
    variable = kernel.variable
    return keras.Variable(
        value,
        dtype=str(value.dtype),
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
        name=f"{variable.name}_{suffix}",
    )
