"""Low-rank layers of a graph become the Keras layers that they hold."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.saving.serialization_lib import SafeModeScope

from keras_squeeze.errors import UnsupportedModelError
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.shrinking.tracing import graph_of
from keras_squeeze.surgery.copying import compile_alike, custom_classes
from keras_squeeze.surgery.layer_tree import check_built, walk_layers
from keras_squeeze.surgery.low_rank_structure import (
    describe_low_rank_layers,
    restore_low_rank_layers,
)
from keras_squeeze.surgery.quantized_structure import (
    describe_quantized_layers,
    restore_quantized_layers,
)

Names = dict[tuple[int, int], list[str]]


def to_stock(model: Any) -> Any:
    """Makes a model in which low-rank layers are plain Keras layers.

    A low-rank layer `hidden` becomes its factors, `hidden_reduce` and
    `hidden_expand` (with a `hidden_core` between them where it has three),
    with the same weights; the last one has the bias and the activation. A
    layer that makes an output of a Functional model keeps its name for its
    last factor, as losses and metrics go by it. The model given is not
    changed.

    Models inside the model are treated alike. Layers inside layers (the
    projections of an attention layer, the layers of a class of your own or of
    a `TimeDistributed`) are not part of the graph and stay low-rank layers.

    Args:
        model: A built Sequential or Functional `keras.Model`.

    Returns:
        A new model of the same kind, compiled like the old one with a fresh
        optimizer. Where no low-rank layer is left in it, it needs nothing but
        Keras, to be saved and loaded too.

    Raises:
        UnbuiltModelError: If the model has no variables yet.
        UnsupportedModelError: If the model is no graph of layers, or cannot
            be made again from its config.

    Example:
    >>> from keras_squeeze.layers import LowRankDense
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), LowRankDense(8, rank=2, name="hidden")]
    ... )
    >>> [layer.name for layer in to_stock(model).layers]
    ['hidden_reduce', 'hidden_expand']
    """
    check_built(model)
    if graph_of(model) is None:
        raise UnsupportedModelError(
            "Expected a Sequential or Functional model, whose layers stand in "
            "a graph: layers of a class of your own stay low-rank layers, "
            "which `keras_squeeze.export` stores. "
            f"Received: {model.name!r} of type {type(model).__name__}"
        )
    config = model.get_config()
    names: Names = {}
    _rewrite(model, config, names)
    stock = _from_config(model, config)
    _restore_inner(model, stock, names)
    _copy_weights(model, stock, names)
    compile_alike(model, stock)
    return stock


def _from_config(model: Any, config: dict[str, Any]) -> Any:
    custom = keras.saving.custom_object_scope(custom_classes(model))
    try:
        # The model is alive in this process: its code is trusted.
        with custom, SafeModeScope(False):
            return type(model).from_config(config)
    except Exception as error:
        raise _unsupported(f"{type(error).__name__}: {error}") from error


def _unsupported(received: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        "Expected a model that can be made again from its config with the "
        f"factors of its low-rank layers. Received: {received}"
    )


def _rewrite(model: Any, config: dict[str, Any], names: Names) -> None:
    """Puts factors in the place of low-rank layers, here and below."""
    graph: Any = graph_of(model)
    layers = {layer.name: layer for layer in graph.operations}
    taken, last = set(layers), {}
    outputs = {r[0] for r in _leaves(config.get("output_layers", []))}
    entries = []
    for entry in config["layers"]:
        name = entry.get("name") or entry["config"]["name"]
        layer = layers.get(name)
        if graph_of(layer) is not None:
            _rewrite(layer, entry["config"], names)
        if not isinstance(layer, LowRankLayer):
            entries.append(entry)
            continue
        chain = _factor_names(layer, taken, name in outputs)
        names[id(model), id(layer)] = chain
        last[name] = chain[-1]
        entries += _factor_entries(layer, entry, chain)
    config["layers"] = entries
    for reference in _references(entries, config.get("output_layers", [])):
        reference[0] = last.get(reference[0], reference[0])


def _references(
    entries: list[dict[str, Any]], outputs: Any
) -> Iterator[list[Any]]:
    """All places of a graph's config that name a layer and its call."""
    yield from _leaves(outputs)
    for entry in entries:
        for part in _dictionaries(entry.get("inbound_nodes", [])):
            if part.get("class_name") == "__keras_tensor__":
                yield part["config"]["keras_history"]


def _leaves(outputs: Any) -> Iterator[list[Any]]:
    """The references in the nested structure of a model's outputs."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if _is_reference(outputs):
        yield outputs
    else:
        for part in outputs:
            yield from _leaves(part)


def _is_reference(node: Any) -> bool:
    """Whether a node of a config names a layer, its call and its output."""
    return (
        isinstance(node, list)
        and len(node) == 3
        and isinstance(node[0], str)
        and isinstance(node[1], int)
    )


def _factor_names(layer: Any, taken: set[str], keeps_name: bool) -> list[str]:
    names = []
    for factor in layer.factors:
        base = name = f"{layer.name}_{factor.name}"
        count = 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        names.append(name)
    return [*names[:-1], layer.name] if keeps_name else names


def _factor_entries(
    layer: Any, entry: dict[str, Any], names: list[str]
) -> list[dict[str, Any]]:
    """The factors as entries of the config of the model."""
    entries = []
    for factor, name in zip(layer.factors, names, strict=True):
        made = keras.saving.serialize_keras_object(factor)
        made.pop("build_config", None)
        made["config"]["name"] = name
        if "inbound_nodes" in entry:
            made["name"] = name
        entries.append(made)
    if getattr(layer, "mask_zero", False):
        entries[0]["config"]["mask_zero"] = True
    if layer.activity_regularizer is not None:
        entries[-1]["config"]["activity_regularizer"] = (
            keras.regularizers.serialize(layer.activity_regularizer)
        )
    if "inbound_nodes" in entry:
        _wire(layer, entries, entry["inbound_nodes"])
    return entries


def _wire(
    layer: Any, entries: list[dict[str, Any]], nodes: list[dict[str, Any]]
) -> None:
    """Each call of the layer becomes a call of each factor in turn."""
    entries[0]["inbound_nodes"] = nodes
    shapes = [_input_shape(node) for node in nodes]
    for i, factor in enumerate(layer.factors[:-1]):
        shapes = [factor.compute_output_shape(shape) for shape in shapes]
        name = entries[i]["name"]
        entries[i + 1]["inbound_nodes"] = [
            {
                "args": [_tensor(name, call, shape, factor.compute_dtype)],
                "kwargs": {},
            }
            for call, shape in enumerate(shapes)
        ]


def _input_shape(node: dict[str, Any]) -> tuple[int | None, ...]:
    return next(
        tuple(part["config"]["shape"])
        for part in _dictionaries(node)
        if part.get("class_name") == "__keras_tensor__"
    )


def _tensor(name: str, call: int, shape: Any, dtype: str) -> dict[str, Any]:
    config = {
        "shape": list(shape),
        "dtype": dtype,
        "keras_history": [name, call, 0],
    }
    return {"class_name": "__keras_tensor__", "config": config}


def _dictionaries(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = node.values()
    elif not isinstance(node, list | tuple):
        return
    for child in node:
        yield from _dictionaries(child)


def _restore_inner(model: Any, stock: Any, names: Names) -> None:
    """Layers that a class makes come from its config with whole kernels."""
    gone = {layer for _, layer in names}
    inside = [p for p, layer in walk_layers(model) if id(layer) in gone]
    # Names are aligned on the way, without which paths are of no use.
    collections.deque(_pairs(model, stock, names), maxlen=0)
    restore_low_rank_layers(
        stock, _outside(describe_low_rank_layers(model), inside)
    )
    restore_quantized_layers(
        stock, _outside(describe_quantized_layers(model), inside)
    )


def _outside(
    specs: list[dict[str, Any]], paths: list[str]
) -> list[dict[str, Any]]:
    return [
        spec
        for spec in specs
        if not any(f"{spec['path']}/".startswith(f"{path}/") for path in paths)
    ]


def _copy_weights(model: Any, stock: Any, names: Names) -> None:
    for before, after in _pairs(model, stock, names):
        source, target = _state(before), _state(after)
        shapes = [[tuple(v.shape) for v in each] for each in (source, target)]
        if shapes[0] != shapes[1]:
            raise _unsupported(
                f"{after.name!r} with variables of the shapes {shapes[1]}, "
                f"not {shapes[0]}"
            )
        for old, new in zip(source, target, strict=True):
            new.assign(old.value)
        # Layers like Normalization keep constants derived from variables.
        if callable(getattr(after, "finalize_state", None)):
            after.finalize_state()


def _state(layer: Any) -> list[Any]:
    """The variables of a layer itself, without those of its sublayers."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    return own + [generator.state for generator in layer._seed_generators]


def _pairs(before: Any, after: Any, names: Names) -> Iterator[tuple[Any, Any]]:
    """Layers and what became of them: factors for a low-rank layer.

    Those of a graph are found by name, as factors may change their order;
    those that a class makes by their order, as Keras numbers them anew.
    """
    yield before, after
    new = _children(after)
    if isinstance(before, LowRankLayer) and not new:
        return
    if graph_of(before) is None:
        if len(new) != len(_children(before)):
            raise _unsupported(f"{after.name!r} with {len(new)} layers")
        for old, layer in zip(_children(before), new, strict=True):
            if layer.name != old.name:
                layer.name = old.name
            yield from _pairs(old, layer, names)
        return
    found = {layer.name: layer for layer in new}
    for old in _children(before):
        chain = names.get((id(before), id(old)))
        if chain is None:
            yield from _pairs(old, found[old.name], names)
            continue
        for factor, name in zip(old.factors, chain, strict=True):
            yield from _pairs(factor, found[name], names)


def _children(layer: Any) -> list[Any]:
    return list(layer._flatten_layers(include_self=False, recursive=False))
