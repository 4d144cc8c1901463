"""The kernels of a model whose coded size is a part of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_squeeze.layers.quantization_aware import QuantizationAware
from keras_squeeze.rate.estimate import estimated_bits
from keras_squeeze.rate.learned_grid import LearnedGrid
from keras_squeeze.rate.measuring import FileMeasurement, measure_file
from keras_squeeze.rate.penalty import CodedSizePenalty


class RatedKernels:
    """Puts a rate penalty on kernels with learned grids.

    It is attached to the variables, beside the regularizers they have, so
    that no config shows it.

    Args:
        model: A `keras.Model` in training.
        grids: Sequence of `LearnedGrid`, the kernels in question.
    """

    def __init__(self, model: Any, grids: Sequence[LearnedGrid]) -> None:
        self._model, self.grids = model, list(grids)
        self._former: list[tuple[Any, Any]] = []
        self._size = sum(grid.size for grid in self.grids)
        #: What a bit costs in units of the loss.
        self._bit_weight = keras.Variable(
            0.0, dtype="float32", trainable=False, name="rate_weight"
        )

    @property
    def weight(self) -> float:
        """The loss that one bit a weight costs."""
        return float(self._bit_weight) * self._size

    @weight.setter
    def weight(self, weight: float) -> None:
        self._bit_weight.assign(weight / self._size)

    def attach(self) -> None:
        """Puts the penalty on and has the step compiled with it."""
        for grid in self.grids:
            variable = grid.variable
            self._former.append((variable, variable.regularizer))
            penalty = CodedSizePenalty(grid.to_levels, self._bit_weight)
            variable.regularizer = _both(variable.regularizer, penalty)
        self._model.make_train_function(force=True)

    def detach(self) -> None:
        """Puts the model's own regularizers back."""
        for variable, regularizer in self._former:
            variable.regularizer = regularizer
        if self._former:
            # A step traced with the penalty would go on with it.
            self._model.train_function = None
        self._former = []

    def are_trained(self) -> bool:
        """Whether the layers are still those that are trained on grids."""
        return all(
            isinstance(grid.layer, QuantizationAware) for grid in self.grids
        )

    def estimated_bytes(self) -> float:
        """The kernels' size by the estimate, as they are now."""
        codes = [grid.tensor().codes for grid in self.grids]
        return sum(estimated_bits(each) for each in codes) / 8

    def measure(self, profile: str) -> FileMeasurement:
        """The size of the file that the model would be now.

        Args:
            profile: String. Which codecs the file may use.

        Returns:
            `FileMeasurement`.
        """
        tensors = {id(grid.variable): grid.tensor() for grid in self.grids}
        # A kernel's codes bring its steps; the parts they are learned in go.
        parts = [v for grid in self.grids for v in grid.trained.parts.values()]
        return measure_file(self._model, tensors, profile, parts)


def _both(first: Any, second: Any) -> Any:
    return second if first is None else _Sum(first, second)


class _Sum(keras.regularizers.Regularizer):
    """The sum of two regularizers."""

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second

    def __call__(self, x: Any) -> Any:
        return keras.ops.add(self._first(x), self._second(x))
