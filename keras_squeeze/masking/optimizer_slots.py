"""What an optimizer remembers of single weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.surgery.layer_tree import to_numpy

_AVERAGES = "_model_variables_moving_average"
_NOT_SLOTS = ("_trainable_variables", _AVERAGES)


def inner_optimizers(optimizer: Any) -> Iterator[Any]:
    """The optimizers that do the updates behind one that may wrap others.

    Args:
        optimizer: A `keras.optimizers.Optimizer`; `LossScaleOptimizer` wraps
            one, `MultiOptimizer` several. `None` has none.

    Yields:
        `keras.optimizers.Optimizer`s that wrap nothing.
    """
    if optimizer is None:
        return
    wrapped = getattr(optimizer, "inner_optimizer", None)
    if wrapped is not None:
        yield from inner_optimizers(wrapped)
        return
    several = getattr(optimizer, "optimizers", None)
    if isinstance(several, list):
        for one in several:
            yield from inner_optimizers(one)
        return
    yield optimizer


def find_slots(optimizer: Any, variable: Any) -> Iterator[Any]:
    """The momentum and the like that an optimizer holds for a variable.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, or one that wraps others.
        variable: The trained `keras.Variable`.

    Yields:
        `keras.Variable`s of the variable's shape, the average of
        `use_ema=True` left out.
    """
    for inner in inner_optimizers(optimizer):
        index = _index(inner, variable)
        if index is None:
            continue
        trained = len(inner._trainable_variables)
        for name, slots in vars(inner).items():
            is_slot_list = isinstance(slots, list) and len(slots) == trained
            if not is_slot_list or name in _NOT_SLOTS:
                continue
            slot = slots[index]
            same = isinstance(slot, keras.Variable) and slot is not variable
            if same and tuple(slot.shape) == tuple(variable.shape):
                yield slot


def find_average(optimizer: Any, variable: Any) -> Any | None:
    """The moving average that `use_ema=True` holds for a variable.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, one that wraps others, or
            `None`.
        variable: The trained `keras.Variable`.

    Returns:
        A `keras.Variable`, or `None` if there is none (yet).
    """
    for inner in inner_optimizers(optimizer):
        index = _index(inner, variable)
        averages = getattr(inner, _AVERAGES, None)
        if index is not None and averages:
            return averages[index]
    return None


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


def mixes_rows(optimizer: Any) -> bool:
    """Whether the momentum of one weight moves the other weights too.

    Muon orthogonalizes the momentum of a whole kernel, so that what pruned
    weights gather would steer those that stay.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, one that wraps others, or
            `None`.

    Returns:
        Boolean.
    """
    muon = getattr(keras.optimizers, "Muon", None)
    return muon is not None and any(
        isinstance(inner, muon) for inner in inner_optimizers(optimizer)
    )


def _index(optimizer: Any, variable: Any) -> int | None:
    trained = getattr(optimizer, "_trainable_variables", [])
    return next((i for i, v in enumerate(trained) if v is variable), None)
