"""Tensors of a file -> the variables of a live model, all or none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_squeeze.artifact import Artifact, TensorRecord
from keras_squeeze.errors import ModelMismatchError
from keras_squeeze.surgery.layer_tree import named_variables, walk_layers

_NUMBERED = re.compile(r"_\d+$")


def assign_tensors(
    model: Any,
    opened: Artifact,
    decoded: Iterable[tuple[TensorRecord, np.ndarray]],
) -> None:
    """Sets every variable of a model from the tensors of a file.

    Where their paths differ from the variables' only in the numbers that
    Keras appends to names it makes up ("dense_3"), they are matched by their
    order.

    Args:
        model: A built `keras.Model`.
        opened: `Artifact`.
        decoded: Iterable of pairs of `TensorRecord` and array: all tensors,
            one at a time where it is a generator.

    Raises:
        ModelMismatchError: If a variable has no tensor, or another shape or
            dtype; no variable is changed then.
    """
    records = {record.name: record for record in opened.tensors}
    pairs = match_variables(named_variables(model), records, opened.path)
    variables = {record.name: variable for variable, record in pairs}
    for record, array in decoded:
        variables[record.name].assign(array)
    finalize(model)


def finalize(model: Any) -> None:
    """Tells the layers that keep something of their weights to renew it."""
    for _, layer in walk_layers(model):
        finalize_state = getattr(layer, "finalize_state", None)
        if callable(finalize_state):
            finalize_state()


def match_layers(
    variables: Iterable[str], tensors: Iterable[str]
) -> dict[str, str]:
    """Pairs the layer paths of a file with those of a live model.

    Args:
        variables: Iterable of variable paths of the model, in model order.
        tensors: Iterable of tensor paths of the file, in file order.

    Returns:
        Dictionary of the file's layer path to the model's, equal paths to
        each other, else by order.
    """
    mine, theirs = _layer_paths(variables), _layer_paths(tensors)
    if set(mine) == set(theirs):
        return {path: path for path in theirs}
    expected = canonical_paths(mine)
    received = canonical_paths(theirs)
    return {
        path: expected[key] for key, path in received.items() if key in expected
    }


def _layer_paths(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(path.rpartition("/")[0] for path in paths))


def without_layers(paths: Iterable[str], layers: Iterable[str]) -> list[str]:
    """The paths whose layer is none of `layers`."""
    excluded = set(layers)
    return [p for p in paths if p.rpartition("/")[0] not in excluded]


def match_variables(
    variables: Mapping[str, Any],
    tensors: Mapping[str, TensorRecord],
    where: str,
) -> list[tuple[Any, TensorRecord]]:
    """Pairs every variable with the tensor of its path.

    Args:
        variables: Mapping of path to `keras.Variable`, in model order.
        tensors: Mapping of path to `TensorRecord`, in file order.
        where: String. The file, for messages.

    Returns:
        List of pairs of variable and record.

    Raises:
        ModelMismatchError: If they do not correspond one to one.
    """
    if set(variables) == set(tensors):
        names = {path: path for path in variables}
    else:
        names = _match_by_order(variables, tensors, where)
    for path, name in names.items():
        _check_fits(path, variables[path], tensors[name], where)
    return [(variables[path], tensors[name]) for path, name in names.items()]


def _match_by_order(
    variables: Iterable[str], tensors: Iterable[str], where: str
) -> dict[str, str]:
    expected = canonical_paths(variables)
    received = canonical_paths(tensors)
    missing = [path for key, path in expected.items() if key not in received]
    extra = [path for key, path in received.items() if key not in expected]
    if missing or extra:
        raise ModelMismatchError(
            f"Expected {where!r} to hold a tensor for each of the model's "
            f"{len(expected)} variables; without one: {missing[:5]}. "
            f"Received: {len(received)} tensors, without a variable: "
            f"{extra[:5]}"
        )
    return {path: received[key] for key, path in expected.items()}


def canonical_paths(paths: Iterable[str]) -> dict[str, str]:
    """Paths by a form in which made-up numbers count from zero.

    Args:
        paths: Iterable of paths, in model order.

    Returns:
        Dictionary of canonical path to path.
    """
    ordinals: dict[str, dict[str, str]] = {}
    canonical = {}
    for path in paths:
        prefix = ""
        for name in path.split("/"):
            siblings = ordinals.setdefault(prefix, {})
            if name not in siblings:
                base = _NUMBERED.sub("", name)
                same = sum(
                    key.rsplit("#", 1)[0] == base for key in siblings.values()
                )
                siblings[name] = f"{base}#{same}"
            prefix = f"{prefix}/{siblings[name]}"
        canonical[prefix] = path
    return canonical


def _check_fits(
    path: str, variable: Any, record: TensorRecord, where: str
) -> None:
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if tuple(variable.shape) != record.shape:
        raise ModelMismatchError(
            f"Expected the tensor {path!r} of {where!r} to have the "
            f"variable's shape {tuple(variable.shape)}. "
            f"Received: shape {record.shape}"
        )
    if dtype != record.dtype:
        raise ModelMismatchError(
            f"Expected the tensor {path!r} of {where!r} to have the "
            f"variable's dtype {dtype}. Received: dtype {record.dtype}"
        )
