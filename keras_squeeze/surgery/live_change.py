"""Layers of a model in training are changed, and its optimizer with them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from keras_squeeze.surgery.optimizer_migration import (
    migrate_optimizer,
    renew_functions,
)
from keras_squeeze.surgery.structure_version import mark_changed

#: Slots by the `id` of a new variable and the optimizer's attribute.
SlotsById = Mapping[int, Mapping[str, Any]]


def change_live(model: Any, convert: Callable[[], SlotsById]) -> None:
    """Changes layers of a model that may be in the middle of a `fit`.

    Its optimizer is built in place for the variables that it has afterwards
    and keeps what it knows of those that are still there; the compiled steps
    are traced anew. Everything that can fail is done before.

    Args:
        model: The `keras.Model`, compiled or not.
        convert: Callable that changes the layers. It returns what the
            optimizer's slots of new variables begin with; of others they are
            fresh.
    """
    with _scope(model):
        slots = convert()
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None:
            migrate_optimizer(
                optimizer,
                model.trainable_variables,
                lambda name, variable: slots.get(id(variable), {}).get(name),
            )
    renew_functions(model)
    mark_changed(model)


def _scope(model: Any) -> Any:
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
