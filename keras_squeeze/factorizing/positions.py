"""How often a layer uses its kernel for one sample."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_squeeze.layers.canonical_kernels import kernel_shape
from keras_squeeze.shrinking.tracing import graph_of, nodes_in_order
from keras_squeeze.surgery.layer_tree import kernel_attributes

_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


def output_positions(model: Any) -> dict[int, int]:
    """The places of a layer's output at which its kernel is multiplied.

    Args:
        model: A built `keras.Model`.

    Returns:
        Dictionary of the `id` of a layer to an integer, the sum over all its
        calls for one sample; axes of unknown length count as one. Layers that
        a class of the user's calls are left out.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
    ... )
    >>> output_positions(model)[id(model.layers[0])]
    36
    """
    counts: dict[int, int] = {}
    graph = graph_of(model)
    for node in nodes_in_order(graph) if graph is not None else ():
        if node.is_input:
            continue
        if graph_of(node.operation) is not None:
            found = output_positions(node.operation)
        else:
            found = _of_call(node)
        for key, count in found.items():
            counts[key] = counts.get(key, 0) + count
    return counts


def _of_call(node: Any) -> dict[int, int]:
    layer = node.operation
    if isinstance(layer, _ATTENTION):
        return _of_attention(node)
    output = _known(node.outputs[0].shape)
    while isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    if not kernel_attributes(layer):
        return {}
    return {id(layer): math.prod(output) // _channels(layer)}


def _channels(layer: Any) -> int:
    """How many values a layer has at one place of its output."""
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, output = layer.equation.split("->")
        kernel = inputs.split(",")[1]
        sizes = dict(zip(kernel, kernel_shape(layer), strict=True))
        return math.prod(sizes[axis] for axis in output if axis in sizes)
    for name in ("units", "filters", "output_dim"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    return 1


def _of_attention(node: Any) -> dict[int, int]:
    layer, inputs = node.operation, node.input_tensors
    queries = math.prod(_known(inputs[0].shape)[:-1])
    values = math.prod(_known(inputs[min(1, len(inputs) - 1)].shape)[:-1])
    calls = {
        "_query_dense": queries,
        "_key_dense": values,
        "_value_dense": values,
        "_gate_dense": queries,
        "_output_dense": queries,
    }
    # Most attention layers have no gate.
    return {
        id(getattr(layer, name)): count
        for name, count in calls.items()
        if getattr(layer, name, None) is not None
    }


def _known(shape: Any) -> tuple[int, ...]:
    """A shape without the batch axis, ones for what is unknown."""
    return tuple(1 if size is None else int(size) for size in shape[1:])
