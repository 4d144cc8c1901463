"""A regularizer on the kernels of a model for as long as a callback wants."""

from __future__ import annotations

from typing import Any

import keras

from keras_squeeze.surgery.layer_tree import Filters, find_kernels


class KernelRegularization:
    """Puts a regularizer on kernels, beside the ones they have.

    It is attached to the variables, not to the layers, so that no config
    shows it.

    Args:
        model: A `keras.Model` in training.
        regularizer: `keras.regularizers.Regularizer`.
        filters: Optional regex or callable, as in `find_kernels`.
    """

    def __init__(
        self, model: Any, regularizer: Any, filters: Filters = None
    ) -> None:
        self._model, self._regularizer = model, regularizer
        self._filters = filters
        self._former: list[tuple[Any, Any]] = []

    def attach(self) -> None:
        """Puts the regularizer on and has the step compiled with it."""
        for kernel in find_kernels(self._model, self._filters):
            variable = kernel.variable
            self._former.append((variable, variable.regularizer))
            variable.regularizer = _both(
                variable.regularizer, self._regularizer
            )
        self._model.make_train_function(force=True)

    def detach(self) -> None:
        """Puts the model's own regularizers back."""
        for variable, regularizer in self._former:
            variable.regularizer = regularizer
        if self._former:
            self._model.make_train_function(force=True)
        self._former = []


def _both(first: Any, second: Any) -> Any:
    return second if first is None else _Sum(first, second)


class _Sum(keras.regularizers.Regularizer):
    """The sum of two regularizers."""

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second

    def __call__(self, x: Any) -> Any:
        return keras.ops.add(self._first(x), self._second(x))
