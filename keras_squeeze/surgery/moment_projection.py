"""What an optimizer remembers of a kernel, handed on to its factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.masking.optimizer_slots import inner_optimizers
from keras_squeeze.surgery.layer_tree import to_numpy

Array = NDArray[Any]
Change = Callable[[Sequence[Array], bool], Sequence[Array]]

# Sums of gradients follow the gradient's own chain rule; sums of squared
# gradients follow it in expectation, with squared factors.
_LINEAR = ("momentums", "m", "average_gradients", "accumulated_gradients")
_SQUARED = ("velocities", "velocity_hats", "accumulators", "accumulated_grads")


def read_slots(optimizer: Any, variable: Any) -> dict[str, Array]:
    """What an optimizer holds for a variable that has the variable's shape.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, one that wraps others, or
            `None`.
        variable: The trained `keras.Variable`.

    Returns:
        Dictionary of the optimizer's attribute and its array. Moving averages
        of the weights are left out.
    """
    found: dict[str, Array] = {}
    for inner in inner_optimizers(optimizer):
        trained = getattr(inner, "_trainable_variables", [])
        places = [i for i, v in enumerate(trained) if v is variable]
        for name, slots in vars(inner).items():
            if not places or not _is_slot_list(name, slots, len(trained)):
                continue
            slot = slots[places[0]]
            if slot is not None and tuple(slot.shape) == tuple(variable.shape):
                found[name] = to_numpy(slot)
    return found


def _is_slot_list(name: str, slots: Any, length: int) -> bool:
    known = _kind(name) in (*_LINEAR, *_SQUARED, "u")
    return known and isinstance(slots, (list, tuple)) and len(slots) == length


def map_slots(
    slots: Mapping[str, Sequence[Array]], change: Change
) -> dict[str, list[Array]]:
    """Turns slots of old variables into slots of the new ones.

    A first moment changes as the gradient does: the moment of one factor is
    the kernel's moment times all other factors. A second moment changes with
    the squares of the other factors, its expectation if the gradients of
    single weights are independent; and a moment of absolute values (Adamax)
    by way of its square.

    Args:
        slots: Mapping of the optimizer's attribute and a sequence with an
            array an old variable.
        change: Callable `(moments, squared) -> moments of the new variables`.

    Returns:
        Dictionary of the optimizer's attribute and a list with an array a new
        variable.
    """
    return {name: _map(name, old, change) for name, old in slots.items()}


def _map(name: str, old: Sequence[Array], change: Change) -> list[Array]:
    kind = _kind(name)
    if kind in _LINEAR:
        return list(change(old, False))
    if kind == "u":
        squares = change([np.square(array) for array in old], True)
        return [np.sqrt(np.maximum(square, 0)) for square in squares]
    return [np.maximum(square, 0) for square in change(old, True)]


def _kind(name: str) -> str:
    return name.lstrip("_").removeprefix("adam_")


def steady_linear(optimizer: Any, value: Array, accumulator: Array) -> Array:
    """The `linear` slot of Ftrl with which a weight stays where it is.

    Ftrl computes every weight anew from its slots: with a fresh slot a new
    weight would fall to nearly zero in its first step.

    Args:
        optimizer: `keras.optimizers.Ftrl`.
        value: Array. The weights.
        accumulator: Array of their shape. Their slot of squared gradients.

    Returns:
        Array of their shape.
    """
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    l2 = optimizer.l2_regularization_strength + optimizer.beta / (2 * rate)
    power = np.power(accumulator, -optimizer.learning_rate_power)
    quadratic = power / rate + 2 * l2
    l1 = optimizer.l1_regularization_strength
    return np.asarray(-(value * quadratic + np.sign(value) * l1))
