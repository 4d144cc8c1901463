"""A copy of what a training has learned so far, to go back to."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.constraints import MaskConstraint
from keras_squeeze.masking.optimizer_slots import inner_optimizers
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.surgery.layer_tree import named_variables, to_numpy

_AVERAGED_FROM_ZERO = {
    "Adam": {"_momentums": "beta_1", "_velocities": "beta_2"},
    "Lamb": {"_momentums": "beta_1", "_velocities": "beta_2"},
    "Adamax": {"_m": "beta_1"},
    "Nadam": {"_momentums": "beta_1", "_velocities": "beta_2"},
    "ScheduleFreeAdamW": {"_velocities": "beta_2"},
    "Muon": {"adam_velocities": "adam_beta_2"},
}
# "_variables" is as long as the others where an optimizer has no slots.
_NOT_SLOTS = ("_trainable_variables", "_variables")


class TrainingSnapshot:
    """The weights of a model and what its optimizer remembers of them.

    Biases, normalization statistics and the optimizer's averages belong to
    it; the optimizer's count of steps, the learning rate and the states of
    random generators do not.

    Args:
        model: The built `keras.Model` in training.
    """

    def __init__(self, model: Any) -> None:
        optimizer = model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        self.weights = [
            variable
            for variable in named_variables(model).values()
            if "float" in keras.backend.standardize_dtype(variable.dtype)
        ]
        self.slots = list(_slots(optimizer))
        #: The step it was taken at, or `None`.
        self.step: int | None = None
        #: How many of the steps at which it is put back are over.
        self.rewinds = 0
        self._arrays: list[NDArray[Any]] = []

    def is_like(self, other: TrainingSnapshot) -> bool:
        """Whether both are made of the same variables."""
        ours, theirs = self._variables(), other._variables()
        return list(map(id, ours)) == list(map(id, theirs))

    def take(self, step: int) -> None:
        """Copies all values.

        Args:
            step: Integer. The step of the training.
        """
        self._arrays = [_full_value(v) for v in self._variables()]
        self.step = step

    def put_back(self, step: int) -> None:
        """Sets all variables to the values copied, pruned weights to zero.

        Args:
            step: Integer. The step of the training, which goes on counting.
        """
        masks: dict[int, NDArray[Any]] = {}
        count = len(self.weights)
        for weight, value in zip(
            self.weights, self._arrays[:count], strict=True
        ):
            masks[id(weight)] = _assign_under_mask(weight, value)
        for (slot, trained, beta), value in zip(
            self.slots, self._arrays[count:], strict=True
        ):
            if beta is not None and self.step:
                value = value * ((1 - beta**step) / (1 - beta**self.step))
            keep = masks.get(id(trained), np.True_)
            if keep.shape == value.shape:
                value = np.where(keep, value, 0)
            slot.assign(value.astype(to_numpy(slot).dtype))

    def register(self, state: TrainingState) -> None:
        """Makes the copies part of what is saved with the model."""
        state.add("snapshot:progress", self._progress, self._set_progress)
        for index in range(len(self._variables())):
            state.add(
                f"snapshot:{index}",
                functools.partial(self._read, index),
                functools.partial(self._write, index),
            )

    def _variables(self) -> list[Any]:
        return self.weights + [slot for slot, _, _ in self.slots]

    def _progress(self) -> NDArray[np.int64]:
        step = -1 if self.step is None else self.step
        return np.array([step, self.rewinds], np.int64)

    def _set_progress(self, values: NDArray[np.int64]) -> None:
        step, self.rewinds = map(int, values)
        self.step = step if step >= 0 else None

    def _read(self, index: int) -> NDArray[Any]:
        if self._arrays:
            return self._arrays[index]
        return np.zeros_like(to_numpy(self._variables()[index]))

    def _write(self, index: int, value: NDArray[Any]) -> None:
        if not self._arrays:
            self._arrays = [np.zeros(0)] * len(self._variables())
        self._arrays[index] = value


def _slots(optimizer: Any) -> Iterator[tuple[Any, Any, float | None]]:
    """Each slot, the variable it is for, and how fast it forgets its start.

    Adam and its kin correct averages for having started from zero, by the
    count of steps. That count goes on while the averages go back; so they
    are put back as large as they would be without the need of a correction.
    """
    for inner in inner_optimizers(optimizer):
        trained = getattr(inner, "_trainable_variables", [])
        betas = _betas(inner)
        for name, slots in vars(inner).items():
            aligned = isinstance(slots, list) and len(slots) == len(trained)
            if not aligned or name in _NOT_SLOTS:
                continue
            beta = betas.get(name)
            for slot, variable in zip(slots, trained, strict=True):
                if isinstance(slot, keras.Variable):
                    yield slot, variable, beta


def _betas(optimizer: Any) -> dict[str, float]:
    for kind in type(optimizer).__mro__:
        if kind.__name__ in _AVERAGED_FROM_ZERO:
            names = _AVERAGED_FROM_ZERO[kind.__name__]
            return {
                slot: float(getattr(optimizer, beta))
                for slot, beta in names.items()
            }
    return {}


def _full_value(variable: Any) -> NDArray[Any]:
    value = np.array(to_numpy(variable))
    shadow = getattr(variable.constraint, "shadow", None)
    return value if shadow is None else value + to_numpy(shadow)


def _assign_under_mask(variable: Any, value: NDArray[Any]) -> NDArray[Any]:
    """Assigns to a weight and gives its mask, true for none."""
    constraint = variable.constraint
    if not isinstance(constraint, MaskConstraint):
        variable.assign(value)
        return np.array(True)
    keep = np.asarray(keras.ops.convert_to_numpy(constraint.mask))
    variable.assign(np.where(keep, value, 0).astype(value.dtype))
    shadow = getattr(constraint, "shadow", None)
    if shadow is None:
        return keep
    # Splicing: what pruned weights remember goes back with the others.
    shadow.assign(np.where(keep, 0, value).astype(value.dtype))
    return np.array(True)
