"""What an optimizer remembers of single weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.surgery.layer_tree import to_numpy


def find_slots(optimizer: Any, variable: Any) -> Iterator[Any]:
    """The momentum and the like that an optimizer holds for a variable.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, or one that wraps another
            as `LossScaleOptimizer` does.
        variable: The trained `keras.Variable`.

    Yields:
        `keras.Variable`s of the variable's shape, the average of
        `use_ema=True` left out.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    trained = getattr(inner, "_trainable_variables", [])
    index = next((i for i, v in enumerate(trained) if v is variable), None)
    if index is None:
        return
    for name, slots in vars(inner).items():
        is_slot_list = isinstance(slots, list) and len(slots) == len(trained)
        if not is_slot_list or name in _NOT_SLOTS:
            continue
        slot = slots[index]
        same = isinstance(slot, keras.Variable) and slot is not variable
        if same and tuple(slot.shape) == tuple(variable.shape):
            yield slot


def clear_slots(
    optimizer: Any, variable: Any, where: NDArray[np.bool_]
) -> None:
    """Makes the optimizer forget single weights.

    A pruned weight gathers momentum that it never followed; when it grows
    back, that momentum would throw it.

    Args:
        optimizer: A `keras.optimizers.Optimizer`.
        variable: The trained `keras.Variable`.
        where: Boolean array of the variable's shape, true where the slots
            become zero.
    """
    for slot in find_slots(optimizer, variable):
        slot.assign(np.where(where, 0, to_numpy(slot)))


_NOT_SLOTS = ("_trainable_variables", "_model_variables_moving_average")
