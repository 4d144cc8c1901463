"""How a model was rebuilt in training, kept in the files of its weights.

A backup of a model whose layers were replaced fits only a model with the same
layers replaced. So the list of replacements is saved with the weights, and can
be read back before there is a model that the weights fit.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.saving import saving_lib
from numpy.typing import NDArray

from keras_squeeze.artifact.limits import Limits, check_limit
from keras_squeeze.errors import (
    CorruptArtifactError,
    SqueezeError,
    UnsafeArtifactError,
)
from keras_squeeze.masking.callback_order import find_callbacks
from keras_squeeze.surgery.attached_state import AttachedState

Structure = list[dict[str, Any]]

_JSON = "json"
_MAX_STATES = 1000


class StructureState(AttachedState):
    """A list in JSON that `save_weights` writes besides the weights.

    It says what the model is at present; loading a file does not change it,
    but sets `restored` if the file says the same.

    Args:
        structure: List of dictionaries that JSON can hold, one a change, as
            `{"path": "hidden", "method": "svd", "ranks": [8]}`. Defaults to
            an empty list.

    Raises:
        SqueezeError: If the list is not of this kind.

    Example:
    ```python
    state = StructureState()
    state.attach(model)
    state.structure = [{"path": "hidden", "method": "svd", "ranks": [8]}]
    model.save_weights("backup.weights.h5")
    read_structure("backup.weights.h5")
    ```
    """

    attribute = "_keras_squeeze_structure"

    def __init__(self, structure: Structure | None = None) -> None:
        super().__init__()
        self._structure: Structure = []
        self.structure = structure or []

    @property
    def structure(self) -> Structure:
        """The list, which can be set anew; a copy in plain JSON types."""
        return json.loads(json.dumps(self._structure))  # type: ignore[no-any-return]

    @structure.setter
    def structure(self, structure: Structure) -> None:
        try:
            plain = json.loads(json.dumps(structure, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise SqueezeError(
                "Expected a structure that JSON can hold. Received: "
                f"{structure!r}, {error}"
            ) from error
        self._structure = _checked(plain, SqueezeError, "a structure")

    def save_own_variables(self, store: Any) -> None:
        """Writes the list into Keras' store; called by `save_weights`."""
        content = json.dumps(self._structure).encode()
        store[_JSON] = np.frombuffer(content, np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Compares the list in Keras' store; called by `load_weights`."""
        if _JSON in store:
            self.restored = _parse(store[_JSON], "weights") == self._structure


def read_structure(path: str | os.PathLike[str]) -> Structure | None:
    """Reads which structure the weights of a file belong to.

    Nothing is built and no weight is read.

    Args:
        path: String or path of a `.weights.h5` file.

    Returns:
        List of dictionaries; where several states were attached, all of them
        in the order of attaching. `None` if the file holds none.

    Raises:
        CorruptArtifactError: If the file cannot be read, or what stands
            there is no structure.
        UnsafeArtifactError: If the file refers to other files.
        LimitExceededError: If it declares sizes beyond the limits.
        FileNotFoundError: If there is no such file.

    Example:
    ```python
    structure = read_structure("backup/latest.weights.h5")
    ```
    """
    path = pathlib.Path(path)
    found: Structure = []
    with _opened(path) as file:
        groups = list(_groups(file))
        for name in groups:
            found += _parse(_bytes_of(file, f"{name}/vars", path), str(path))
    return found if groups else None


def find_backup(callback: Any) -> str | None:
    """The file that a `BackupAndRestore` is about to restore.

    Args:
        callback: The `keras.callbacks.Callback` that asks, in its
            `on_train_begin`. The `BackupAndRestore` stands behind it in the
            list of callbacks.

    Returns:
        String, the path; `None` if there is no such callback or no file.
    """
    others = find_callbacks(callback, keras.callbacks.Callback)
    places = [i for i, other in enumerate(others) if other is callback]
    for other in others[places[0] :] if places else []:
        if isinstance(other, keras.callbacks.BackupAndRestore):
            path = _restored_path(other)
            if path is not None:
                return path
    return None


def _restored_path(backup: Any) -> str | None:
    path, previous = backup._weights_path, backup._prev_weights_path
    if not os.path.exists(path):
        return None
    if os.path.exists(previous) and not _can_be_opened(path):
        # Keras then takes the one before (`double_checkpoint=True`).
        return str(previous)
    return str(path)


def _can_be_opened(path: str) -> bool:
    try:
        with _opened(pathlib.Path(path)):
            return True
    except CorruptArtifactError:
        return False


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    try:
        store = saving_lib.H5IOStore(path, mode="r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptArtifactError(
            f"Expected a readable `.weights.h5` file: {error}. Received: {path}"
        ) from error
    try:
        yield store.h5_file
    finally:
        store.close()


def _groups(file: Any) -> Iterator[str]:
    number = 0
    while f"{StructureState.attribute}_{number}" in file:
        check_limit("structures in a file", number + 1, _MAX_STATES)
        yield f"{StructureState.attribute}_{number}"
        number += 1


def _bytes_of(file: Any, group: str, path: pathlib.Path) -> NDArray[Any]:
    try:
        dataset = saving_lib.safe_get_h5_dataset(file, f"{group}/{_JSON}")
    except KeyError as error:
        raise CorruptArtifactError(
            f"Expected a dataset {group}/{_JSON}. Received: {path}"
        ) from error
    except ValueError as error:
        raise UnsafeArtifactError(
            f"Expected plain groups and datasets: {error}. Received: {path}"
        ) from error
    if dataset.dtype != np.uint8 or len(dataset.shape) != 1:
        raise CorruptArtifactError(
            f"Expected {group}/{_JSON} in {path} to be bytes. Received: "
            f"{dataset.dtype} of shape {dataset.shape}"
        )
    limit = Limits().max_manifest_bytes
    check_limit("a structure in bytes", dataset.size, limit)
    try:
        return np.asarray(dataset[()])
    except OSError as error:
        raise CorruptArtifactError(
            f"Expected {group}/{_JSON} to be readable: {error}. "
            f"Received: {path}"
        ) from error


def _parse(content: NDArray[Any], where: str) -> Structure:
    try:
        parsed = json.loads(np.asarray(content, np.uint8).tobytes())
    except (ValueError, RecursionError) as error:
        raise CorruptArtifactError(
            f"Expected a structure in JSON in {where}. Received: {error}"
        ) from error
    return _checked(parsed, CorruptArtifactError, where)


def _checked(content: Any, error: type[SqueezeError], where: str) -> Structure:
    is_list = isinstance(content, list)
    if not is_list or not all(isinstance(item, dict) for item in content):
        raise error(
            f"Expected a list of dictionaries in {where}. "
            f"Received: {str(content)[:200]}"
        )
    return list(content)
