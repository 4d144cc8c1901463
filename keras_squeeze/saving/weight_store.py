"""Weights under the names that Keras' own files give them -> a live model.

An artifact made of a `.weights.h5` or `.keras` file without building the model
holds its datasets by their paths ("layers/dense/vars/0"). Which variable one
of them is, only Keras' loader knows, walking the live model; so it is that
loader which sets the variables, from the artifact instead of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping
from typing import Any

import keras
import numpy as np
from keras.src.saving import saving_lib

from keras_squeeze.artifact import Artifact, Manifest, TensorRecord
from keras_squeeze.artifact.tensor_decoding import decode_tensors
from keras_squeeze.bridges.exporting import LAYOUT
from keras_squeeze.errors import ModelMismatchError
from keras_squeeze.saving.assigning import finalize
from keras_squeeze.surgery.layer_tree import check_built

_GROUP = "vars"
# Where files of Keras before version 3 have what is now called "layers".
_FORMER_LAYERS = "_layer_checkpoint_dependencies"


def is_store(manifest: Manifest) -> bool:
    """Whether tensors have the names of a file of Keras' own."""
    return manifest.model.get("layout") == LAYOUT


def assign_store(model: Any, opened: Artifact) -> None:
    """Sets the variables of a model as `model.load_weights` would.

    Args:
        model: A built `keras.Model`.
        opened: `Artifact` for which `is_store` is true.

    Raises:
        ModelMismatchError: If the file does not hold what the model saves, in
            the same shapes; the model is unchanged then.
    """
    check_built(model)
    groups = _grouped(opened.tensors)
    _check_fits(model, groups, opened.path)
    failed: dict[int, tuple[Any, Exception]] = {}
    saving_lib._load_state(
        model,
        weights_store=_Reader(opened, groups),
        assets_store=None,
        inner_path="",
        visited_saveables=_left_out(model),
        failed_saveables=set(),
        error_msgs=failed,
    )
    for saveable, error in failed.values():
        raise ModelMismatchError(
            f"Expected {opened.path!r} to hold the weights of {saveable!r}. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    finalize(model)


Group = dict[str, TensorRecord]


def _grouped(records: tuple[TensorRecord, ...]) -> dict[str, Group]:
    """Records by the path of their layer and their name in its group."""
    groups: dict[str, Group] = {}
    for record in records:
        path, _, name = record.name.rpartition("/")
        layer = path.removesuffix(_GROUP).removesuffix("/")
        groups.setdefault(layer, {})[name] = record
    return groups


def _find(groups: Mapping[str, Group], path: str) -> Group:
    if path in groups:
        return groups[path]
    return groups.get(path.replace("layers", _FORMER_LAYERS), {})


def _left_out(model: Any) -> set[int]:
    """Objects whose state no artifact holds: optimizer and metrics."""
    optimizer = getattr(model, "optimizer", None)
    metrics = list(getattr(model, "metrics", None) or [])
    compiled = ("_compile_metrics", "_compile_loss", "_loss_tracker")
    others = [getattr(model, name, None) for name in compiled]
    return {
        id(item) for item in (optimizer, *metrics, *others) if item is not None
    }


def _check_fits(model: Any, groups: Mapping[str, Group], where: str) -> None:
    saved = _Recorder()
    saving_lib._save_state(
        model,
        weights_store=saved,
        assets_store=None,
        inner_path="",
        visited_saveables=_left_out(model),
    )
    for path, name, shape in saved.found:
        record = _find(groups, path).get(name)
        if record is None or record.shape != shape:
            received = "no such tensor" if record is None else record.shape
            raise ModelMismatchError(
                f"Expected {where!r} to hold {path}/{_GROUP}/{name} of shape "
                f"{shape}, as the model saves it. Received: {received}"
            )


class _Recorder(saving_lib.H5IOStore):
    """Notes what a model would save, without a file."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, tuple[int, ...]]] = []
        self._path = ""

    def __bool__(self) -> bool:
        return True

    def make(self, path: str, metadata: Any = None) -> _Recorder:
        self._path = path
        return self

    def __setitem__(self, key: str, value: Any) -> None:
        self.found.append((self._path, key, tuple(keras.ops.shape(value))))

    def __len__(self) -> int:
        return len(self.found)


class _Reader(saving_lib.H5IOStore):
    """Gives Keras' loader the tensors of an artifact, one at a time."""

    def __init__(self, opened: Artifact, groups: Mapping[str, Group]) -> None:
        self._opened = opened
        self._groups = groups
        self._group: Group = {}

    def __bool__(self) -> bool:
        return True

    def get(self, path: str) -> _Reader:
        self._group = _find(self._groups, path)
        return self

    def has_path(self, path: str) -> bool:
        below = f"{path}/"
        return any(
            known == path or known.startswith(below) for known in self._groups
        )

    def close(self) -> None:
        """Leaves the artifact to its owner."""

    def __len__(self) -> int:
        return len(self._group)

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __contains__(self, key: object) -> bool:
        return key in self._group

    def keys(self) -> KeysView[str]:
        return self._group.keys()

    def __getitem__(self, key: str) -> np.ndarray:
        record = self._group[key]
        stored = self._opened.stored(record)
        return decode_tensors([record], [stored], self._opened.base)[0]
