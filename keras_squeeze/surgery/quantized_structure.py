"""Which layers of a model are quantized, and how: as JSON, and back.

A model whose class builds its own sublayers comes back from its config with
float ones. These two functions carry what the config does not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keras_squeeze import layers
from keras_squeeze.errors import ModelMismatchError
from keras_squeeze.layers.conversion import (
    QUANTIZED_CLASSES,
    convert_layer,
    kernel_variables,
    reason_not_quantizable,
)
from keras_squeeze.layers.quantized_attention import adopt_projections
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.quantized_recurrent import adopt_cells
from keras_squeeze.layers.quantizer_arguments import (
    layer_quantizer,
    quantizer_arguments,
)
from keras_squeeze.surgery.layer_tree import walk_layers


def describe_quantized_layers(model: Any) -> list[dict[str, Any]]:
    """Lists the quantized layers of a model.

    Args:
        model: A `keras.Model` or layer.

    Returns:
        List of JSON-ready dictionaries with `path`, `class_name` and
        `quantizer` (a layer's arguments), in model order.
    """
    return [
        {
            "path": path,
            "class_name": type(layer).__name__,
            "quantizer": quantizer_arguments(layer.kernel_quantizer),
        }
        for path, layer in walk_layers(model)
        if isinstance(layer, QuantizedKernel)
    ]


def restore_quantized_layers(
    model: Any, specs: Iterable[Mapping[str, Any]]
) -> None:
    """Makes layers quantized again, with kernels of zeros, in place.

    Args:
        model: A built `keras.Model` or layer.
        specs: What `describe_quantized_layers` returned. Layers that are
            quantized that way already are left as they are.

    Raises:
        ModelMismatchError: If a path or a class does not fit; the model is
            unchanged then.
    """
    found = dict(walk_layers(model))
    plan = [(find_layer(found, spec), spec) for spec in specs]
    pending = [(layer, spec) for layer, spec in plan if not _done(layer, spec)]
    for layer, spec in pending:
        _check_convertible(layer, spec)
    for layer, spec in pending:
        convert_layer(layer, layer_quantizer(**spec["quantizer"]))
    adopt_parents(model)


def adopt_parents(model: Any) -> None:
    """Lets layers remember how the layers that they make are quantized.

    Attention layers make their projections and recurrent layers their cells;
    without this, a config would bring back float ones.

    Args:
        model: A `keras.Model` or layer.
    """
    for _, layer in list(walk_layers(model)):
        adopt_projections(layer)
        adopt_cells(layer)


def find_layer(found: Mapping[str, Any], spec: Mapping[str, Any]) -> Any:
    """The layer that a description means.

    Args:
        found: Mapping of a path to its layer.
        spec: Mapping with `path`, and `class_name` for the message.

    Returns:
        The layer.

    Raises:
        ModelMismatchError: If there is no layer of that path.
    """
    path = spec["path"]
    if path not in found:
        raise ModelMismatchError(
            f"Expected a layer {path!r}, to become {spec['class_name']}. "
            f"Received: a model with the layers {[p for p in found if p]}"
        )
    return found[path]


def _done(layer: Any, spec: Mapping[str, Any]) -> bool:
    if not isinstance(layer, QuantizedKernel):
        return False
    received = quantizer_arguments(layer.kernel_quantizer)
    expected = dict(spec["quantizer"])
    if type(layer).__name__ != spec["class_name"] or received != expected:
        raise ModelMismatchError(
            f"Expected {spec['path']!r} to be {spec['class_name']} with "
            f"{expected}. Received: {type(layer).__name__} with {received}"
        )
    return True


def _check_convertible(layer: Any, spec: Mapping[str, Any]) -> None:
    target = QUANTIZED_CLASSES.get(type(layer))
    wanted = getattr(layers, str(spec["class_name"]), None)
    reason = reason_not_quantizable(layer)
    if target is None or target is not wanted or reason is not None:
        raise ModelMismatchError(
            f"Expected {spec['path']!r} to be a layer that becomes "
            f"{spec['class_name']}. Received: {type(layer).__name__}"
            + (f" ({reason})" if reason else "")
        )
    kernel_variables(layer)
