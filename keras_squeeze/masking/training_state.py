"""What of a training's state is saved and restored with the model's weights."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.surgery.attached_state import AttachedState
from keras_squeeze.surgery.layer_tree import to_numpy

_NAMES = "names"


class TrainingState(AttachedState):
    """Arrays that `save_weights` writes and `load_weights` reads back."""

    attribute = "_keras_squeeze_training_state"

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, _Entry] = {}

    def add_variable(self, name: str, variable: Any) -> None:
        """Adds a `keras.Variable` under a name that is not taken.

        Args:
            name: String.
            variable: `keras.Variable`.
        """
        self.add(name, lambda: to_numpy(variable), variable.assign)

    def add(
        self,
        name: str,
        read: Callable[[], NDArray[Any]],
        write: Callable[[NDArray[Any]], Any],
    ) -> None:
        """Adds an array that is read and written by functions.

        Args:
            name: String that is not taken.
            read: Callable that gives the array.
            write: Callable that takes an array of the same shape and dtype.
        """
        self._entries[name] = read, write

    def save_own_variables(self, store: Any) -> None:
        """Writes all entries into Keras' store; called by `save_weights`."""
        names = json.dumps(list(self._entries)).encode()
        store[_NAMES] = np.frombuffer(names, np.uint8)
        for index, (read, _) in enumerate(self._entries.values()):
            store[str(index)] = _pack(read())

    def load_own_variables(self, store: Any) -> None:
        """Reads all entries from Keras' store; called by `load_weights`."""
        if _NAMES not in store:
            return
        saved = json.loads(bytes(np.asarray(store[_NAMES], np.uint8)))
        current = [(read().shape, read().dtype) for read, _ in self._values()]
        if saved != list(self._entries) or any(
            tuple(store[str(i)].shape) != _packed_shape(*entry)
            for i, entry in enumerate(current)
        ):
            warnings.warn(
                "The file holds the state of another pruning than the one "
                "that is running, which begins from the weights instead. "
                f"Received: {len(saved)} arrays, {saved[:3]}...",
                stacklevel=2,
            )
            return
        for index, (_, write) in enumerate(self._values()):
            write(_unpack(store[str(index)], *current[index]))
        self.restored = True

    def _values(self) -> list[_Entry]:
        return list(self._entries.values())


_Entry = tuple[Callable[[], NDArray[Any]], Callable[[NDArray[Any]], Any]]


def _pack(array: NDArray[Any]) -> NDArray[Any]:
    return np.packbits(array) if array.dtype.kind == "b" else array


def _packed_shape(shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    if np.dtype(dtype).kind != "b":
        return tuple(shape)
    return (-(-int(np.prod(shape, dtype=np.int64)) // 8),)


def _unpack(
    stored: NDArray[Any], shape: tuple[int, ...], dtype: Any
) -> NDArray[Any]:
    if np.dtype(dtype).kind != "b":
        return np.asarray(stored).astype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    return np.unpackbits(stored, count=count).astype(bool).reshape(shape)
