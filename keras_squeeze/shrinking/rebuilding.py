"""The smaller model: its config, its weights, its optimizer."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.saving.serialization_lib import SafeModeScope
from numpy.typing import NDArray

from keras_squeeze.errors import UnsupportedModelError
from keras_squeeze.shrinking.trace import Trace, Width
from keras_squeeze.shrinking.tracing import graph_of
from keras_squeeze.surgery.copying import compile_alike
from keras_squeeze.surgery.layer_tree import named_variables, walk_layers

Mask = NDArray[np.bool_]


class Cut:
    """What to cut away: the channels, and what that does to variables.

    Args:
        trace: `Trace`, made with the same channels removed.
        removed: Boolean array indexed by channel id.
    """

    def __init__(self, trace: Trace, removed: Mask) -> None:
        self.trace = trace
        self.removed = removed
        self.folds = _folds(trace, removed)

    def count(self, width: Width) -> int:
        """The number that a width becomes."""
        return int((~self.removed[width.ids]).sum()) // width.divisor

    def changes(self, width: Width) -> bool:
        """Whether a width must be written into the new config."""
        trigger = width.ids if width.trigger is None else width.trigger
        return bool(
            self.removed[width.ids].any() or self.removed[trigger].any()
        )

    def kept(self, variable: Any, array: NDArray[Any]) -> NDArray[Any]:
        """What stays of a variable, or of a slot of its shape.

        Args:
            variable: `keras.Variable` of the model that is cut.
            array: Array of its shape.

        Returns:
            Array.
        """
        for binding in self.trace.bindings:
            if binding.variable is not variable:
                continue
            gone = self.removed[binding.ids]
            if gone.any():
                array = np.compress(~gone, array, axis=binding.axis)
        return array

    def value(self, variable: Any) -> NDArray[Any]:
        """The value of a variable in the smaller model.

        Args:
            variable: `keras.Variable` of the model that is cut.

        Returns:
            Array.
        """
        array = self.kept(variable, self._raw(variable))
        if id(variable) in self.trace.rescaled:
            ids = self.trace.rescaled[id(variable)][1]
            share = float((~self.removed[ids]).mean())
            array = (array * np.sqrt(share)).astype(array.dtype)
        for layer, (_, addition) in self.folds.items():
            if getattr(layer, "bias", None) is variable:
                whole = self._raw(variable) + addition
                array = self.kept(variable, whole.astype(array.dtype))
        return array

    def new_bias(self, layer: Any) -> NDArray[Any]:
        """The bias of a layer that had none."""
        fold, addition = self.folds[layer]
        ids = next(
            b.ids
            for b in self.trace.bindings
            if b.variable is fold.kernel
            and b.axis == fold.output_axis % len(fold.kernel.shape)
        )
        return np.asarray(addition[~self.removed[ids]])

    def _raw(self, variable: Any) -> NDArray[Any]:
        return np.asarray(keras.ops.convert_to_numpy(variable.value))


def _folds(trace: Trace, removed: Mask) -> dict[Any, tuple[Any, Any]]:
    """Layers whose bias takes what removed constants gave to them."""
    found: dict[Any, tuple[Any, Any]] = {}
    for use in trace.uses:
        values = np.nan_to_num(np.where(removed[use.ids], use.constants, 0.0))
        if use.fold is None or not (values * ~use.unread).any():
            continue
        kernel = trace.value(use.fold.kernel).astype(np.float64)
        axes = (use.fold.input_axis, use.fold.output_axis)
        kernel = np.moveaxis(kernel, axes, (0, 1))
        matrix = kernel.reshape(*kernel.shape[:2], -1).sum(axis=2)
        found[use.layer] = (use.fold, values @ matrix)
    return found


def rebuild(model: Any, cut: Cut) -> Any:
    """Makes the model without the channels that were cut away.

    Args:
        model: The `keras.Model` that was traced.
        cut: `Cut`.

    Returns:
        A new model, compiled like the old one.

    Raises:
        UnsupportedModelError: If the model cannot be made again from its
            config, or is not of the predicted shape then.
    """
    config = copy.deepcopy(model.get_config())
    _rewrite(model, config, cut)
    custom = {
        type(layer).__name__: type(layer)
        for _, layer in walk_layers(model)
        if not type(layer).__module__.startswith(("keras.layers", "keras.src."))
    }
    try:
        # The model is alive in this process: its code is trusted.
        with keras.saving.custom_object_scope(custom), SafeModeScope(False):
            smaller = type(model).from_config(config)
    except Exception as error:
        raise _unsupported(f"{type(error).__name__}: {error}") from error
    _align_names(model, smaller)
    _assign(model, smaller, cut)
    compile_alike(model, smaller)
    return smaller


def _unsupported(received: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        "Expected a model that can be made again from its config with fewer "
        f"channels. Received: {received}"
    )


def _rewrite(model: Any, config: dict[str, Any], cut: Cut) -> None:
    """Writes the new widths into the config of a model and those inside."""
    graph = graph_of(model)
    layers = {layer.name: layer for layer in graph.operations} if graph else {}
    if isinstance(model, keras.Sequential):
        config.pop("build_input_shape", None)
    for entry in config["layers"]:
        name = entry.get("name") or entry["config"]["name"]
        layer = layers.get(name)
        if layer is None or id(layer) not in cut.trace.understood | _inputs(
            cut
        ):
            continue
        # What the layer was built for is no longer what it will get.
        entry.pop("build_config", None)
        if graph_of(layer) is not None:
            _rewrite(layer, entry["config"], cut)
            continue
        for part in _parts(entry["config"]):
            part.pop("build_config", None)
        for width in cut.trace.widths:
            if width.layer is layer and cut.changes(width):
                _write(entry["config"], width, cut.count(width))
        for bearer, (fold, _) in cut.folds.items():
            if fold.owner is layer and bearer.bias is None:
                _at(entry["config"], fold.keys)[fold.keys[-1]] = True


def _inputs(cut: Cut) -> set[int]:
    return {
        id(width.layer)
        for width in cut.trace.widths
        if width.keys[-1] == "batch_shape"
    }


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The layers inside the config of a wrapper."""
    for key in ("layer", "backward_layer"):
        if isinstance(config.get(key), dict):
            yield config[key]
            yield from _parts(config[key]["config"])


def _at(config: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    for key in keys[:-1]:
        config = config[key]
    return config


def _write(config: dict[str, Any], width: Width, count: int) -> None:
    place, key = _at(config, width.keys), width.keys[-1]
    if width.index is None:
        place[key] = count
    elif isinstance(place[key], list | tuple):
        values = list(place[key])
        values[width.index] = count
        place[key] = values
    else:
        place[key] = [count] if key == "output_shape" else count


def _align_names(model: Any, smaller: Any) -> None:
    """Gives sublayers that Keras numbered anew the names of the originals."""
    old = [layer for _, layer in walk_layers(model)]
    new = [layer for _, layer in walk_layers(smaller)]
    if len(old) != len(new):
        raise _unsupported(
            f"{len(new)} layers from the config of {len(old)} layers"
        )
    for before, after in zip(old, new, strict=True):
        if after.name != before.name:
            after.name = before.name


def pairs(model: Any, smaller: Any, cut: Cut) -> Iterator[tuple[str, Any, Any]]:
    """The variables of two models in their common order.

    Names will not do: those that Keras makes up count on from model to model.

    Args:
        model: The `keras.Model` that was cut.
        smaller: What became of it.
        cut: `Cut`.

    Yields:
        Path and variable of `model`, variable of `smaller`; biases that
        `model` did not have are left out.
    """
    added = {id(variable) for variable, _ in _added(model, smaller, cut)}
    source = named_variables(model)
    target = [
        variable
        for variable in named_variables(smaller).values()
        if id(variable) not in added
    ]
    if len(source) != len(target):
        raise _unsupported(f"{len(target)} variables, not {len(source)}")
    for (path, before), after in zip(source.items(), target, strict=True):
        yield path, before, after


def _added(model: Any, smaller: Any, cut: Cut) -> Iterator[tuple[Any, Any]]:
    for (_, before), (_, after) in zip(
        walk_layers(model), walk_layers(smaller), strict=True
    ):
        if before in cut.folds and before.bias is None:
            yield after.bias, cut.new_bias(before)


def _assign(model: Any, smaller: Any, cut: Cut) -> None:
    for variable, value in _added(model, smaller, cut):
        variable.assign(value)
    for path, before, after in pairs(model, smaller, cut):
        value = cut.value(before)
        if tuple(value.shape) != tuple(after.shape):
            raise _unsupported(
                f"{path} of shape {tuple(after.shape)}, not {value.shape}"
            )
        after.assign(value)
    for _, layer in walk_layers(smaller):
        # Layers like Normalization keep constants derived from variables.
        if callable(getattr(layer, "finalize_state", None)):
            layer.finalize_state()
