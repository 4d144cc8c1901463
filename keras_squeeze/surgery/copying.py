"""A second model, equal in structure, names and state."""

from __future__ import annotations

import collections
from typing import Any

import keras
from keras.src.saving.serialization_lib import SafeModeScope

from keras_squeeze.errors import (
    ModelMismatchError,
    UnbuiltModelError,
    UnsupportedModelError,
)
from keras_squeeze.surgery.layer_tree import (
    check_built,
    named_variables,
    walk_layers,
)
from keras_squeeze.surgery.low_rank_structure import (
    describe_low_rank_layers,
    restore_low_rank_layers,
    without_factors,
)
from keras_squeeze.surgery.quantized_structure import (
    describe_quantized_layers,
    restore_quantized_layers,
)


def copy_model(model: Any) -> Any:
    """Copies a model: its structure, the names of its layers, all its state.

    Shared layers stay shared, quantized layers quantized, low-rank layers of
    low rank. The optimizer is
    not copied; where Keras can write the compile arguments down, the copy is
    compiled with them and a fresh optimizer.

    Args:
        model: A built `keras.Model`: Sequential, Functional, or a class with
            `get_config` and `from_config`.

    Returns:
        A new model of the same kind that shares nothing with `model`.

    Raises:
        UnbuiltModelError: If the model has no variables yet.
        UnsupportedModelError: If the model cannot be made again from its
            config; the message names the fix.

    Example:
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> copy = copy_model(model)
    >>> bool((copy.layers[0].kernel == model.layers[0].kernel).numpy().all())
    True
    """
    copy = replicate(model)
    compile_alike(model, copy)
    return copy


def replicate(model: Any) -> Any:
    """`copy_model` without compiling: for a copy that is edited further.

    Args:
        model: A built `keras.Model`.

    Returns:
        A new model.
    """
    check_built(model)
    copy = _make_again(model)
    _align_names(model, copy)
    try:
        restore_low_rank_layers(copy, describe_low_rank_layers(model))
        restore_quantized_layers(copy, describe_quantized_layers(model))
    except ModelMismatchError as error:
        raise _unsupported(model, str(error)) from error
    _copy_state(model, copy)
    return copy


def _make_again(model: Any) -> Any:
    custom = keras.saving.custom_object_scope(custom_classes(model))
    try:
        # The model is alive in this process: its code is trusted.
        with custom, SafeModeScope(False):
            copy = type(model).from_config(model.get_config())
            _build_like(model, copy)
    except Exception as error:
        raise _unsupported(model, f"{type(error).__name__}: {error}") from error
    return copy


def custom_classes(model: Any) -> dict[str, type]:
    """The classes of a model's layers that are neither Keras' nor ours.

    Args:
        model: A `keras.Model` or layer.

    Returns:
        Dictionary of class name to class.
    """
    kinds = [type(layer) for _, layer in walk_layers(model)]
    return {
        kind.__name__: kind
        for kind in kinds
        if not kind.__module__.startswith(("keras.", "keras_squeeze."))
    }


def _build_like(model: Any, copy: Any) -> None:
    layers = [layer for _, layer in walk_layers(copy)]
    if all(layer.built for layer in layers):
        return
    copy.build_from_config(model.get_build_config())
    # Keras runs `call` to build the layers of a model of a user's class, and
    # leaves the mark of the model itself to its first real call.
    if all(layer.built for _, layer in walk_layers(copy) if layer is not copy):
        copy.built = True


def _unsupported(model: Any, received: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"Expected a model that can be made again from its config: give "
        f"{type(model).__name__} (and each of its own layers) `get_config` "
        "and `from_config`, and create all state in `__init__` or `build`. "
        f"Received: {received}"
    )


def _align_names(model: Any, copy: Any) -> None:
    """Gives sublayers that Keras numbered anew the names of the originals."""
    # Low-rank layers that a class makes have no factors in the copy yet.
    old, new = without_factors(model), without_factors(copy)
    if len(old) != len(new):
        shared = _shared_by_parents(model)
        raise _unsupported(
            model,
            f"{len(new)} layers from the config of {len(old)}"
            + (f", of which several models share {shared}" if shared else ""),
        )
    for before, after in zip(old, new, strict=True):
        if after.name != before.name:
            after.name = before.name


def _shared_by_parents(model: Any) -> list[str]:
    """Layers in several models or layers: configs make one for each."""
    paths = {id(layer): path for path, layer in walk_layers(model)}
    parents = collections.Counter(
        id(child)
        for _, layer in walk_layers(model)
        for child in layer._flatten_layers(include_self=False, recursive=False)
    )
    return [paths[key] for key, count in parents.items() if count > 1]


def _copy_state(model: Any, copy: Any) -> None:
    source = named_variables(model)
    try:
        target = named_variables(copy)
    except UnbuiltModelError as error:
        raise _unsupported(model, "a copy that Keras cannot build") from error
    shapes = [_signatures(source), _signatures(target)]
    if shapes[0] != shapes[1]:
        different = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))
        raise _unsupported(model, f"different variables {different[:4]}")
    for path, variable in source.items():
        target[path].assign(variable.value)
    for _, layer in walk_layers(copy):
        # Layers like Normalization keep constants derived from variables.
        if callable(getattr(layer, "finalize_state", None)):
            layer.finalize_state()


def _signatures(variables: dict[str, Any]) -> dict[str, Any]:
    return {
        path: (tuple(variable.shape), str(variable.dtype))
        for path, variable in variables.items()
    }


def compile_alike(model: Any, copy: Any) -> None:
    """Compiles a copy with the arguments of its model, if Keras can.

    Args:
        model: A `keras.Model`, compiled or not.
        copy: Its copy.
    """
    if not getattr(model, "compiled", False):
        return
    try:
        copy.compile_from_config(model.get_compile_config())
    except Exception:
        # A loss of the user's own that Keras cannot write down: the copy is
        # for inference, and its user can compile it.
        return
