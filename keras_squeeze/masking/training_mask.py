"""The constraints that hold a mask on a kernel for the length of one training.

A `keras.Variable`'s constraint is applied by every Keras optimizer inside the
compiled step, right after the update. It is never saved: only a layer's own
`kernel_constraint` is part of a config.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import keras

from keras_squeeze.constraints import MaskConstraint


class TrainingMask(MaskConstraint):
    """A mask that is put on a kernel for the length of one training.

    Args:
        mask: Boolean `keras.Variable`, true where a weight stays.
        inner: The user's own constraint, or `None`.
        history: The `keras.callbacks.History` of this fit, or `None`. Masks
            of another fit were left behind by an interruption.
        find_average: Optional callable that gives the optimizer's moving
            average of the kernel, or `None`. Defaults to `None`.
    """

    #: Whether the kernel may be replaced by factors meanwhile: the pruning
    #: notices and masks these.
    moves_to_factors = True

    def __init__(
        self,
        mask: Any,
        inner: Any,
        history: Any,
        find_average: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(mask, inner)
        self._history = weakref.ref(history) if history is not None else None
        self._find_average = find_average

    def belongs_to(self, history: Any) -> bool:
        """Whether the mask was made in the fit of this history."""
        return self._history is not None and self._history() is history

    def __call__(self, w: Any) -> Any:
        """The tensor `w` with zeros outside the mask."""
        masked = super().__call__(w)
        self._mask_average()
        return masked

    def _mask_average(self) -> None:
        # Keras averages before it applies constraints: the average would hold
        # a little of each update of a pruned weight, and bring it to life in
        # an evaluation under `SwapEMAWeights` and at the end of training.
        average = self._find_average() if self._find_average else None
        if average is not None:
            mask = keras.ops.convert_to_tensor(self.mask)
            value = keras.ops.convert_to_tensor(average)
            zero = keras.ops.cast(0, value.dtype)
            average.assign(keras.ops.where(mask, value, zero))


class SplicingMask(TrainingMask):
    """A mask under which pruned weights go on learning, unseen.

    The kernel holds zeros where it is pruned, so the loss and its gradients
    are those of the pruned network; what the optimizer adds to these zeros is
    gathered in a shadow. Kernel and shadow together are the full weights, of
    which one or the other is zero.

    Args:
        shadow: `keras.Variable` of the kernel's shape and dtype: the values
            of the pruned weights.
        mask: Boolean `keras.Variable`, true where a weight stays.
        inner: The user's own constraint, or `None`; it sees the full weights.
        history: The `keras.callbacks.History` of this fit, or `None`.
        find_average: Optional callable as for `TrainingMask`.

    References:
        [Guo et al., 2016](https://arxiv.org/abs/1608.04493)
    """

    def __init__(self, shadow: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shadow = shadow

    def __call__(self, w: Any) -> Any:
        """The tensor `w` with zeros outside the mask; the rest is kept."""
        ops = keras.ops
        w = ops.convert_to_tensor(w)
        mask = ops.convert_to_tensor(self.mask)
        zero = ops.cast(0, w.dtype)
        shadow = ops.convert_to_tensor(self.shadow)
        # The shadow is zero where the mask lets the weight stand.
        full = w + shadow
        if self.inner is not None:
            full = ops.convert_to_tensor(self.inner(full))
        self.shadow.assign(ops.where(mask, zero, full))
        self._mask_average()
        return ops.where(mask, full, zero)
