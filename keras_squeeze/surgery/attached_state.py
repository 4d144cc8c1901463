"""Objects of ours that are saved and loaded with the weights of a model."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

from keras.src.saving.keras_saveable import KerasSaveable


class AttachedState(KerasSaveable):
    """What `save_weights` writes besides a model's weights, for a while.

    Keras saves whatever saveable object is an attribute of the model, in a
    group of the attribute's name; and it loads only the groups it finds an
    attribute for. So a file saved while the state is attached resumes a
    training that attaches an equal state, and loads anywhere else as if the
    state were not in it. The model's own variables do not change, nor do the
    optimizer's.

    Subclasses set `attribute` and define `save_own_variables(store)` and
    `load_own_variables(store)`.
    """

    #: How the model's attribute is called, but for a number.
    attribute: ClassVar[str]

    def __init__(self) -> None:
        self.restored = False
        self._history: Any = None

    def attach(self, model: Any) -> None:
        """Makes the state part of what a model saves and loads.

        States left behind by another training are dropped.

        Args:
            model: The `keras.Model` in training.
        """
        history = getattr(model, "history", None)
        self._history = weakref.ref(history) if history is not None else None
        _drop_states_of_other_trainings(model, history)
        number = 0
        while f"{self.attribute}_{number}" in vars(model):
            number += 1
        # Past the model's `__setattr__`, which is locked once it is built.
        vars(model)[f"{self.attribute}_{number}"] = self

    def detach(self, model: Any) -> None:
        """Takes the state off the model.

        Args:
            model: The `keras.Model` it was attached to.
        """
        for name, value in list(vars(model).items()):
            if value is self:
                del vars(model)[name]

    def belongs_to(self, history: Any) -> bool:
        """Whether the state was attached in the fit of this history."""
        own = self._history() if self._history is not None else None
        return own is history

    def _obj_type(self) -> str:
        # Keras asks which attributes it need not look through, and knows
        # no type of objects that has as few as a loss.
        return "Loss"


def _drop_states_of_other_trainings(model: Any, history: Any) -> None:
    for name, value in list(vars(model).items()):
        if isinstance(value, AttachedState) and not value.belongs_to(history):
            # Left behind by a training that was interrupted.
            del vars(model)[name]
