"""One optimizer, built in place for other variables than before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src.utils.tracking import DotNotTrackScope

from keras_squeeze.errors import SqueezeError

_NOT_SLOTS = ("_trainable_variables", "_variables")


def rebuild(optimizer: Any, variables: list[Any]) -> None:
    """Builds an optimizer again and keeps what it knows of old variables.

    Args:
        optimizer: A built `keras.optimizers.Optimizer` that wraps no other.
        variables: List of `keras.Variable`s, the model's trainable ones.

    Raises:
        SqueezeError: If its `build` does not make its slots anew. The
            optimizer is as before then.
    """
    before = _Memory(optimizer)
    try:
        _set_tracked(optimizer, [])
        set_trained(optimizer, [])
        optimizer.built = False
        optimizer.build(variables)
        before.put_back(variables)
    except Exception:
        before.undo()
        raise


def set_trained(optimizer: Any, variables: list[Any]) -> None:
    """Tells an optimizer which variables it trains, in which order.

    Args:
        optimizer: A `keras.optimizers.Optimizer`.
        variables: List of `keras.Variable`s.
    """
    keys = map(optimizer._var_key, variables)
    with DotNotTrackScope():
        optimizer._trainable_variables = list(variables)
        optimizer._trainable_variables_indices = {
            key: index for index, key in enumerate(keys)
        }


def slot_lists(optimizer: Any) -> dict[str, list[Any]]:
    """The lists with one slot for each variable that an optimizer trains.

    Args:
        optimizer: A built `keras.optimizers.Optimizer` that wraps no other.

    Returns:
        Dictionary of attribute name to list of `keras.Variable`s, with `None`
        where a variable has no such slot. Moving averages and accumulated
        gradients belong to it.
    """
    count = len(optimizer._trainable_variables)
    return {
        name: list(value)
        for name, value in vars(optimizer).items()
        if name not in _NOT_SLOTS and _is_slot_list(value, count)
    }


def _is_slot_list(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(v is None or isinstance(v, keras.Variable) for v in value)
        and any(v is not None for v in value)
    )


class _Memory:
    """What an optimizer holds before it is built again."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._attributes = dict(vars(optimizer))
        self._tracked = list(optimizer._variables)
        self._slots = slot_lists(optimizer)
        trained = optimizer._trainable_variables
        self._places = {optimizer._var_key(v): i for i, v in enumerate(trained)}

    def put_back(self, variables: list[Any]) -> None:
        for name, slots in self._slots.items():
            self._put_back_slots(name, slots, variables)
        for name, value in self._attributes.items():
            new = vars(self._optimizer).get(name)
            is_scalar = isinstance(value, keras.Variable) and new is not value
            if is_scalar and isinstance(new, keras.Variable):
                new.assign(value.value)
        self._keep_tracked()
        self._forget_decay(variables)

    def _put_back_slots(
        self, name: str, slots: list[Any], variables: list[Any]
    ) -> None:
        optimizer = self._optimizer
        new = getattr(optimizer, name)
        if new is self._attributes[name] or len(new) != len(variables):
            raise SqueezeError(
                f"Expected `build()` of the optimizer to make `{name}` anew, "
                f"with a slot for each of {len(variables)} variables. "
                f"Received: {type(optimizer).__name__} with {len(new)} slots"
            )
        for variable, slot in zip(variables, new, strict=True):
            place = self._places.get(optimizer._var_key(variable))
            old = None if place is None else slots[place]
            if old is not None and slot is not None and _alike(old, slot):
                slot.assign(old.value)

    def _keep_tracked(self) -> None:
        """Variables not made by `build` stay, in front as before."""
        optimizer = self._optimizer
        made = list(optimizer._variables)
        held = {id(v) for v in _held_variables(optimizer)}
        held -= {id(v) for v in made}
        kept = [v for v in self._tracked if id(v) in held]
        _set_tracked(optimizer, kept + made)

    def _forget_decay(self, variables: list[Any]) -> None:
        # Keys may be addresses, which a later variable can have again.
        optimizer = self._optimizer
        gone = set(self._places) - set(map(optimizer._var_key, variables))
        if hasattr(optimizer, "_exclude_from_weight_decay_cache"):
            optimizer._exclude_from_weight_decay_cache = {}
        if getattr(optimizer, "_exclude_from_weight_decay", None):
            kept = set(optimizer._exclude_from_weight_decay) - gone
            optimizer._exclude_from_weight_decay = kept

    def undo(self) -> None:
        with DotNotTrackScope():
            for name, value in self._attributes.items():
                if vars(self._optimizer).get(name) is not value:
                    setattr(self._optimizer, name, value)
        _set_tracked(self._optimizer, self._tracked)


def _set_tracked(optimizer: Any, variables: list[Any]) -> None:
    # A list that TensorFlow saw an item deleted from can no longer be saved,
    # so it is replaced; and it must not track its items once more.
    with DotNotTrackScope():
        optimizer._variables = list(variables)
    tracker = optimizer._tracker
    belongs, _ = tracker.config["variables"]
    tracker.config["variables"] = belongs, optimizer._variables
    tracker.stored_ids["variables"] = {id(v) for v in variables}


def _held_variables(optimizer: Any) -> Iterator[Any]:
    for name, value in vars(optimizer).items():
        if name in _NOT_SLOTS:
            continue
        items: Iterable[Any] = (value,)
        if isinstance(value, (list, tuple, set)):
            items = value
        elif isinstance(value, dict):
            items = value.values()
        yield from (v for v in items if isinstance(v, keras.Variable))


def _alike(one: Any, other: Any) -> bool:
    return tuple(one.shape) == tuple(other.shape) and one.dtype == other.dtype
