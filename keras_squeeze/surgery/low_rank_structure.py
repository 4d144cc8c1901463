"""Which layers of a model are of low rank, and how: as JSON, and back.

A model whose class builds its own sublayers comes back from its config with
whole kernels. These functions carry what the config does not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_squeeze.errors import ModelMismatchError, SqueezeError
from keras_squeeze.layers.canonical_kernels import (
    from_canonical,
    kernel_info_arguments,
)
from keras_squeeze.layers.low_rank_conversion import (
    LOW_RANK_CLASSES,
    convert_to_low_rank,
    reason_not_factorizable,
)
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.low_rank import decompositions
from keras_squeeze.surgery.layer_tree import walk_layers
from keras_squeeze.surgery.quantized_structure import find_layer


def describe_low_rank_layers(model: Any) -> list[dict[str, Any]]:
    """Lists the low-rank layers of a model.

    Args:
        model: A `keras.Model` or layer.

    Returns:
        List of JSON-ready dictionaries with `path`, `class_name`, `method`
        and `rank` (a list of integers), in model order.
    """
    return [
        {
            "path": path,
            "class_name": type(layer).__name__,
            "method": layer.method,
            "rank": list(layer.ranks),
        }
        for path, layer in walk_layers(model)
        if isinstance(layer, LowRankLayer)
    ]


def restore_low_rank_layers(
    model: Any, specs: Iterable[Mapping[str, Any]]
) -> None:
    """Makes layers of low rank again, with factors of zeros, in place.

    Args:
        model: A built `keras.Model` or layer.
        specs: What `describe_low_rank_layers` returned. Layers that are of
            that kind and rank already are left as they are.

    Raises:
        ModelMismatchError: If a path, a class, a method or a rank does not
            fit; the model is unchanged then.
    """
    found = dict(walk_layers(model))
    plan = [(find_layer(found, spec), spec) for spec in specs]
    pending = [(layer, spec) for layer, spec in plan if not _done(layer, spec)]
    zeros = [_zero_factors(layer, spec) for layer, spec in pending]
    for (layer, spec), factors in zip(pending, zeros, strict=True):
        convert_to_low_rank(layer, spec["method"], factors)


def factor_shapes(layer: Any, spec: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of the kernels that a layer of low rank would hold.

    Args:
        layer: A layer that is whole.
        spec: One of what `describe_low_rank_layers` returned.

    Returns:
        List of tuples of integers.

    Raises:
        ModelMismatchError: If the layer cannot become what `spec` says.
    """
    zeros = _zero_factors(layer, spec)
    kernels = from_canonical(layer, spec["method"], zeros)
    return [tuple(kernel.shape) for kernel in kernels]


def without_factors(model: Any) -> list[Any]:
    """The layers of a model, without those that low-rank layers hold.

    Args:
        model: A `keras.Model` or layer.

    Returns:
        List of layers, parents first.
    """
    layers = [layer for _, layer in walk_layers(model)]
    factors = {
        id(factor)
        for layer in layers
        if isinstance(layer, LowRankLayer)
        for factor in layer.factors
    }
    return [layer for layer in layers if id(layer) not in factors]


def _ranks(rank: Any) -> list[int]:
    return [
        int(r) for r in (rank if isinstance(rank, list | tuple) else [rank])
    ]


def _done(layer: Any, spec: Mapping[str, Any]) -> bool:
    if not isinstance(layer, LowRankLayer):
        return False
    received = type(layer).__name__, layer.method, list(layer.ranks)
    expected = spec["class_name"], spec["method"], _ranks(spec["rank"])
    if received != expected:
        raise ModelMismatchError(
            f"Expected {spec['path']!r} to be {expected[0]} by {expected[1]} "
            f"of rank {expected[2]}. Received: {received[0]} by "
            f"{received[1]} of rank {received[2]}"
        )
    return True


def _zero_factors(layer: Any, spec: Mapping[str, Any]) -> tuple[Any, ...]:
    """The factors of a layer that is to become one of low rank."""
    target, wanted = LOW_RANK_CLASSES.get(type(layer)), spec["class_name"]
    reason = reason_not_factorizable(layer, spec["method"])
    if reason is None and getattr(target, "__name__", "") == wanted:
        try:
            return _zeros(layer, spec["method"], _ranks(spec["rank"]))
        except SqueezeError as error:
            reason = str(error)
    raise ModelMismatchError(
        f"Expected {spec['path']!r} to be a layer that becomes "
        f"{wanted} by {spec['method']} of rank {spec['rank']}. "
        f"Received: {type(layer).__name__}" + (f" ({reason})" if reason else "")
    )


def _zeros(layer: Any, method: str, ranks: list[int]) -> tuple[Any, ...]:
    shape = kernel_info_arguments(layer)["shape"]
    shapes = decompositions.get(method).factor_shapes(shape, ranks)
    return tuple(np.zeros(shape, "float32") for shape in shapes)
