"""The mask of one kernel of a model that is in training."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.constraints import MaskConstraint
from keras_squeeze.errors import SqueezeError
from keras_squeeze.surgery.layer_tree import Kernel, to_numpy


class TrainingMask(MaskConstraint):
    """A mask that a callback put on a kernel for the length of one fit.

    Args:
        mask: Boolean `keras.Variable`, true where a weight stays.
        inner: The user's own constraint, or `None`.
        history: The `keras.callbacks.History` of this fit, or `None`. Masks
            of another fit were left behind by an interruption.
    """

    def __init__(self, mask: Any, inner: Any, history: Any) -> None:
        super().__init__(mask, inner)
        self._history = weakref.ref(history) if history is not None else None

    def belongs_to(self, history: Any) -> bool:
        """Whether the mask was made in the fit of this history."""
        return self._history is not None and self._history() is history


class KernelMask:
    """Puts a mask on a kernel, changes it, and takes it off again.

    Args:
        kernel: The `Kernel` to mask. It starts with every weight kept.
        history: The `keras.callbacks.History` of this fit, or `None`.

    Raises:
        SqueezeError: If another callback of this fit masks the same kernel.
    """

    def __init__(self, kernel: Kernel, history: Any = None) -> None:
        inner = kernel.variable.constraint
        if isinstance(inner, TrainingMask):
            if inner.belongs_to(history):
                raise SqueezeError(
                    "Expected every kernel to be matched by the `filters` of "
                    f"one pruning callback only. Received: {kernel.path}, "
                    "matched by two callbacks"
                )
            inner = inner.inner
        self.kernel = kernel
        # Held here too: reading it back from a device would cost as much as
        # choosing it.
        self.keep: NDArray[np.bool_] = np.ones(kernel.variable.shape, bool)
        self.variable = keras.Variable(
            self.keep,
            dtype="bool",
            trainable=False,
            aggregation="only_first_replica",
            name=f"{kernel.variable.name}_mask",
        )
        self._constraint = TrainingMask(self.variable, inner, history)
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
            weights: Array, the kernel's weights as they are.
        """
        self.keep = keep
        self.variable.assign(keep)
        if not keep.all():
            zero = weights.dtype.type(0)
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
        """The kernel's weights as an array."""
        return to_numpy(self.kernel.variable)


def make_masks(model: Any, kernels: list[Kernel]) -> list[KernelMask]:
    """Makes masks where the model's variables live, and attaches them.

    Nothing is attached unless every mask could be made.

    Args:
        model: The `keras.Model` in training.
        kernels: List of `Kernel`.

    Returns:
        List of `KernelMask`, in the order of `kernels`.

    Raises:
        SqueezeError: If another callback of this fit masks one of them.
    """
    history = getattr(model, "history", None)
    with _variable_scope(model):
        masks = [KernelMask(kernel, history) for kernel in kernels]
    for mask in masks:
        mask.attach()
    return masks


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
def _variable_scope(model: Any) -> Iterator[None]:
    """Where TensorFlow distributes a model, its masks must be mirrored too."""
    strategy = getattr(model, "_distribute_strategy", None)
    if strategy is None:
        yield
    else:
        with strategy.scope():
            yield
