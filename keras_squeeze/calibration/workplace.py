"""Where calibration works: on copies of a model, or on the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from keras_squeeze.calibration.model_snapshot import ModelSnapshot
from keras_squeeze.calibration.structure_transfer import transfer_structure
from keras_squeeze.errors import UnsupportedModelError
from keras_squeeze.surgery.copying import replicate


class ModelState(Protocol):
    """A model as calibration left it."""

    def shown(self) -> Any:
        """A context manager that gives the model in this state."""

    def move_into(self, target: Any) -> None:
        """Brings the model that was copied into this state, for good."""


class Copy:
    """A changed copy of a model.

    Args:
        model: The copy.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @contextmanager
    def shown(self) -> Iterator[Any]:
        """Gives the copy, to look at.

        Yields:
            `keras.Model`.
        """
        yield self.model

    def move_into(self, target: Any) -> None:
        """Gives another model the structure and the values of the copy.

        Args:
            target: The `keras.Model` that was copied.
        """
        transfer_structure(self.model, target)


class Copies:
    """Copies of a model to work on.

    Args:
        model: A built `keras.Model`, never changed.

    Raises:
        UnsupportedModelError: If it cannot be copied.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._spare: Any = replicate(model)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Gives a copy that may be changed.

        Yields:
            `keras.Model`.
        """
        work, self._spare = self._spare, None
        yield replicate(self._model) if work is None else work

    def state(self, work: Any) -> ModelState:
        """What a copy has become.

        Args:
            work: What `opened` gave.

        Returns:
            `ModelState`.
        """
        return Copy(work)


class LiveModel:
    """A model that is worked on itself, and put back each time.

    Args:
        model: A built `keras.Model`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Gives the model; it is as before afterwards, errors or not.

        Yields:
            `keras.Model`.
        """
        with ModelSnapshot(self._model).put_back():
            yield self._model

    def state(self, work: Any) -> ModelState:
        """What the model has become, while it is open.

        Args:
            work: What `opened` gave.

        Returns:
            `ModelState`.
        """
        return ModelSnapshot(work)


Workplace = Copies | LiveModel


def workplace(model: Any, inplace: bool = False) -> Workplace:
    """Where to work on a model.

    Args:
        model: A built `keras.Model`.
        inplace: Boolean. Whether the model itself may be worked on if it
            cannot be copied. Defaults to `False`.

    Returns:
        `Copies`, or `LiveModel` for a model that cannot be copied.

    Raises:
        UnsupportedModelError: If it cannot be copied and is not to be changed.
    """
    try:
        return Copies(model)
    except UnsupportedModelError:
        if not inplace:
            raise
        return LiveModel(model)
