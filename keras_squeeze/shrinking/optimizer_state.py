"""What an optimizer remembers, carried over to a smaller model."""

from __future__ import annotations

from typing import Any

import keras

from keras_squeeze.shrinking.rebuilding import Cut, pairs
from keras_squeeze.surgery.layer_tree import to_numpy


def carry_optimizer(model: Any, smaller: Any, cut: Cut) -> bool:
    """Gives the optimizer of a smaller model the state of the old one.

    Momenta are cut like their variables; step counts and the like are copied.
    A slot of another shape than its variable starts anew.

    Args:
        model: The compiled `keras.Model` that was cut.
        smaller: What became of it, compiled alike.
        cut: `Cut`.

    Returns:
        Boolean. Whether there was anything to carry over.
    """
    old = getattr(model, "optimizer", None)
    new = getattr(smaller, "optimizer", None)
    if old is None or new is None or not old.built:
        return False
    if not new.built:
        new.build(smaller.trainable_variables)
    if old is not _inner(old):
        _copy_plain(old, new)
    old, new = _inner(old), _inner(new)
    _copy_plain(old, new)
    places = {id(v): i for i, v in enumerate(old._trainable_variables)}
    sources = {id(b): a for _, a, b in pairs(model, smaller, cut)}
    for i, after in enumerate(new._trainable_variables):
        before = sources.get(id(after))
        if id(before) in places:
            _copy_slots(old, new, places[id(before)], i, before, cut)
    return True


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _copy_plain(old: Any, new: Any) -> None:
    """Variables that belong to no weight: iterations, learning rate."""
    for name, value in vars(old).items():
        target = vars(new).get(name)
        if isinstance(value, keras.Variable) and isinstance(
            target, keras.Variable
        ):
            target.assign(value.value)


def _copy_slots(
    old: Any, new: Any, old_index: int, new_index: int, before: Any, cut: Cut
) -> None:
    shape = tuple(before.shape)
    for name, slots in vars(old).items():
        if name == "_trainable_variables" or not _is_slot_list(slots, old):
            continue
        source, target = slots[old_index], vars(new)[name][new_index]
        if source is None or tuple(source.shape) != shape:
            continue
        target.assign(cut.kept(before, to_numpy(source)))


def _is_slot_list(slots: Any, optimizer: Any) -> bool:
    return isinstance(slots, list) and len(slots) == len(
        optimizer._trainable_variables
    )
