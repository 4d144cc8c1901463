"""What a training does to the layers of its model, saved with the weights."""

from __future__ import annotations

import abc
from typing import Any

from keras_squeeze.surgery.structure_state import (
    StructureState,
    read_structure,
)

Entry = dict[str, Any]


class LiveStructure(abc.ABC):
    """Changes layers of a model in training so that it can be resumed.

    Args:
        model: The `keras.Model` in training.
        number: Integer. Tells apart those that work on one model. Defaults to
            `0`.
    """

    def __init__(self, model: Any, number: int = 0) -> None:
        self.model, self._number = model, number
        #: Whether layers have been changed, or looked at in vain.
        self.is_done = False
        self._state = StructureState()

    @property
    def structure(self) -> list[Entry]:
        """The layers that were changed, as saved beside the weights."""
        return self._state.structure

    def begin(self, backup: str | None = None) -> None:
        """Lets `save_weights` write the structure down.

        Args:
            backup: Optional path of the weights that are about to be
                restored; the model gets the structure they were saved with.

        Raises:
            ModelMismatchError: If that structure does not fit the model.
        """
        structure = None if backup is None else read_structure(backup)
        if structure is not None:
            self.restore(structure)
        self._state.attach(self.model)

    def end(self) -> None:
        """The structure is no longer written down; the layers stay."""
        self._state.detach(self.model)

    @abc.abstractmethod
    def restore(self, structure: list[Entry]) -> None:
        """Changes the layers as a training did before.

        Args:
            structure: List of entries, as `structure` gives them.

        Raises:
            ModelMismatchError: If it does not fit the model, which is
                unchanged then.
        """
