"""A training goes on when variables of its model have been replaced.

An optimizer knows the variables it was built for, one by one. When a layer
gets other variables inside a running training, the optimizer is built once
more in place: it stays the same object with the same count of steps, and what
it remembers of variables that are still there is kept bit for bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.surgery.layer_tree import to_numpy
from keras_squeeze.surgery.moment_projection import steady_linear
from keras_squeeze.surgery.optimizer_rebuilding import (
    rebuild,
    set_trained,
    slot_lists,
)

NewSlots = Callable[[str, Any], Any]

_AVERAGES = "_model_variables_moving_average"


def migrate_optimizer(
    optimizer: Any, trainable_variables: Any, new_slots: NewSlots | None = None
) -> None:
    """Makes an optimizer train the variables that a model has now.

    It is changed in place. Slots of variables that it trained before keep
    their values bit for bit; so do `iterations`, the learning rate, the loss
    scale and all else that belongs to no variable. New variables get the
    slots that a fresh optimizer has, with three exceptions: a moving average
    of the weights begins at their value, and so does what
    `ScheduleFreeAdamW` keeps for a momentum; and `Ftrl`, which computes
    weights from slots, gets those with which the weights stay.

    The compiled step of a model must be renewed afterwards: `renew_functions`.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, `LossScaleOptimizer`,
            `MultiOptimizer`, or `None`. Nothing happens to one that is not
            built yet.
        trainable_variables: The `trainable_variables` of the model.
        new_slots: Optional callable `(name, variable) -> array or None`. It is
            asked for each slot of a new variable that has the variable's
            shape and is no average of weights, by the name of the optimizer's
            attribute (as `"_momentums"`). `None` leaves the slot fresh.

    Raises:
        SqueezeError: If an array has another shape than its slot, or is not
            finite; the slots of all new variables are fresh then. Or if an
            optimizer of the user's own does not make its slots in `build`; it
            is as before then.

    Example:
    ```python
    migrate_optimizer(model.optimizer, model.trainable_variables)
    renew_functions(model)
    ```
    """
    if optimizer is None or not optimizer.built:
        return
    with _creation_scope(optimizer):
        new = list(_migrate(optimizer, list(trainable_variables)))
        for inner, keys in new:
            _fill_averages(inner, keys)
        if new_slots is not None:
            given = [
                pair
                for inner, keys in new
                for pair in _given_slots(inner, keys, new_slots)
            ]
            for slot, value in given:
                slot.assign(value)
        for inner, keys in new:
            _steady_weights(inner, keys)


def renew_functions(model: Any) -> None:
    """Makes Keras trace the steps of a model again.

    What it compiled refers to the variables of the time. Metrics, history and
    whatever else `compile` and `fit` set up stay.

    Args:
        model: The `keras.Model`, inside a `fit` or not.
    """
    if getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)
    model.test_function = None
    model.predict_function = None


def _creation_scope(optimizer: Any) -> Any:
    """Slots are mirrored over devices as their variables are."""
    strategy = getattr(optimizer, "_distribution_strategy", None)
    if strategy is None:
        return contextlib.nullcontext()
    from tensorflow import distribute

    # A scope inside another strategy's is refused; the caller's is right.
    if distribute.has_strategy():
        return contextlib.nullcontext()
    return strategy.scope()


_Migrated = Iterator[tuple[Any, set[Any]]]


def _migrate(optimizer: Any, variables: list[Any]) -> _Migrated:
    """Rebuilds; gives each optimizer and the keys of its new variables."""
    wrapped = getattr(optimizer, "inner_optimizer", None)
    if wrapped is not None:
        if wrapped.built:
            yield from _migrate(wrapped, variables)
        set_trained(optimizer, variables)
    elif hasattr(optimizer, "_var_to_optimizer_idx"):
        yield from _migrate_several(optimizer, variables)
    else:
        yield _migrate_one(optimizer, variables)


def _migrate_one(optimizer: Any, variables: list[Any]) -> tuple[Any, set[Any]]:
    key = optimizer._var_key
    old = set(map(key, optimizer._trainable_variables))
    rebuild(optimizer, variables)
    return optimizer, set(map(key, variables)) - old


def _migrate_several(optimizer: Any, variables: list[Any]) -> _Migrated:
    """A `MultiOptimizer`: variables stay with the optimizer they have."""
    owners = dict(optimizer._var_to_optimizer_idx)
    for variable in variables:
        key = optimizer._var_key(variable)
        if key not in owners:
            owners[key] = _place_of(
                optimizer, optimizer._optimizer_map(variable)
            )
    keys = [optimizer._var_key(variable) for variable in variables]
    for index, inner in enumerate(optimizer._inner_optimizers):
        own = [
            v
            for v, key in zip(variables, keys, strict=True)
            if owners[key] == index
        ]
        if inner.built:
            yield _migrate_one(inner, own)
        elif own:
            inner.build(own)
            # Its schedules go on with those of the others.
            inner._iterations.assign(optimizer._iterations.value)
            yield inner, set(map(inner._var_key, own))
    optimizer._var_to_optimizer_idx = {key: owners[key] for key in keys}
    set_trained(optimizer, variables)


def _place_of(optimizer: Any, inner: Any) -> int:
    found = optimizer._inner_optimizers
    for index, one in enumerate(found):
        if one is inner:
            return index
    inner.loss_scale_factor = optimizer.loss_scale_factor
    found.append(inner)
    return len(found) - 1


def _new_slots_of(
    optimizer: Any, keys: set[Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Name, variable and slot of each slot that a new variable has."""
    for name, slots in slot_lists(optimizer).items():
        pairs = zip(optimizer._trainable_variables, slots, strict=True)
        for variable, slot in pairs:
            if slot is not None and optimizer._var_key(variable) in keys:
                yield name, variable, slot


def _fill_averages(optimizer: Any, keys: set[Any]) -> None:
    for name, variable, slot in _new_slots_of(optimizer, keys):
        if name == _AVERAGES:
            slot.assign(variable.value)


def _given_slots(
    optimizer: Any, keys: set[Any], new_slots: NewSlots
) -> Iterator[tuple[Any, NDArray[Any]]]:
    for name, variable, slot in _new_slots_of(optimizer, keys):
        shape = tuple(slot.shape)
        if shape != tuple(variable.shape) or _holds_weights(optimizer, name):
            continue
        value = new_slots(name, variable)
        if value is None:
            continue
        value = np.asarray(value)
        if value.shape != shape or not np.isfinite(value).all():
            raise SqueezeError(
                f"Expected a finite array of shape {shape} as slot `{name}` "
                f"of {variable.path}. Received: shape {value.shape}, finite: "
                f"{bool(np.isfinite(value).all())}"
            )
        yield slot, value


def _holds_weights(optimizer: Any, name: str) -> bool:
    if name == _AVERAGES:
        return True
    if isinstance(optimizer, keras.optimizers.Ftrl):
        return name == "_linears"
    kind = getattr(keras.optimizers, "ScheduleFreeAdamW", None)
    return (
        kind is not None
        and isinstance(optimizer, kind)
        and name == "_momentums"
    )


def _steady_weights(optimizer: Any, keys: set[Any]) -> None:
    if not isinstance(optimizer, keras.optimizers.Ftrl):
        return
    for name, variable, slot in _new_slots_of(optimizer, keys):
        if name == "_linears":
            index = optimizer._get_variable_index(variable)
            squares = to_numpy(optimizer._accumulators[index])
            slot.assign(steady_linear(optimizer, to_numpy(variable), squares))
