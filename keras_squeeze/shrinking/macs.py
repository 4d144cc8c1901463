"""Multiplications and additions of a model, counted on its graph."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.shrinking.tracing import graph_of, nodes_in_order
from keras_squeeze.surgery.layer_tree import kernel_attributes

_RECURRENT = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)


def count_macs(model: Any) -> dict[int, int]:
    """Multiply-accumulate operations of each layer for one sample.

    Counted are the products with kernels and the two products inside
    attention; one of them is two floating-point operations. Axes of unknown
    length count as one.

    Args:
        model: A built Sequential or Functional `keras.Model`.

    Returns:
        Dictionary of the `id` of a layer to its operations in all its calls.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
    ... )
    >>> sum(count_macs(model).values())  # 6 * 6 places, 3 * 3 * 3 * 4 weights
    3888
    """
    counts: dict[int, int] = {}
    graph = graph_of(model)
    for node in nodes_in_order(graph) if graph is not None else ():
        layer = node.operation
        if node.is_input:
            continue
        if graph_of(layer) is not None:
            for inner, count in count_macs(layer).items():
                counts[inner] = counts.get(inner, 0) + count
            continue
        count = layer_macs(layer, *_shapes(node))
        counts[id(layer)] = counts.get(id(layer), 0) + count
    return counts


def _shapes(node: Any) -> tuple[list[Any], Any]:
    inputs = [_known(tensor.shape) for tensor in node.input_tensors]
    return inputs, _known(node.outputs[0].shape)


def _known(shape: Any) -> tuple[int, ...]:
    """A shape without the batch axis, ones for what is unknown."""
    return tuple(1 if size is None else int(size) for size in shape[1:])


def layer_macs(
    layer: Any, inputs: list[tuple[int, ...]], output: tuple[int, ...]
) -> int:
    """Multiply-accumulate operations of one call of a layer.

    Args:
        layer: A built layer.
        inputs: List of the shapes of its inputs, without the batch axis.
        output: The shape of its first output, without the batch axis.

    Returns:
        Integer; zero for layers without kernels.
    """
    if isinstance(layer, keras.layers.TimeDistributed):
        steps = output[0]
        inner = [shape[1:] for shape in inputs]
        return steps * layer_macs(layer.layer, inner, output[1:])
    if isinstance(layer, keras.layers.Bidirectional):
        parts = (layer.forward_layer, layer.backward_layer)
        return sum(layer_macs(part, inputs, output) for part in parts)
    if isinstance(layer, _RECURRENT):
        weights = layer.cell.kernel, layer.cell.recurrent_kernel
        return inputs[0][0] * sum(_size(weight) for weight in weights)
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return _attention_macs(layer, inputs)
    if isinstance(layer, LowRankLayer):
        return _chain_macs(layer.factors, inputs[0])
    return _kernel_macs(layer, inputs[0], output)


def _weights(dense: Any) -> int:
    if isinstance(dense, LowRankLayer):
        return sum(_size(factor.kernel) for factor in dense.factors)
    return _size(dense.kernel)


def _size(variable: Any) -> int:
    return math.prod(variable.shape)


def _kernel_macs(
    layer: Any, shape: tuple[int, ...], output: tuple[int, ...]
) -> int:
    attributes = kernel_attributes(layer)
    if not attributes or isinstance(layer, keras.layers.Embedding):
        return 0
    size = sum(_size(getattr(layer, name)) for name in attributes)
    if isinstance(layer, keras.layers.EinsumDense):
        return math.prod(output) * size // _output_channels(layer)
    if not hasattr(layer, "data_format"):
        return math.prod(output[:-1]) * size
    transposed = type(layer).__name__.endswith("Transpose")
    places = shape if transposed else output
    last = layer.data_format == "channels_last"
    return math.prod(places[:-1] if last else places[1:]) * size


def _chain_macs(factors: list[Any], shape: tuple[int, ...]) -> int:
    total = 0
    for factor in factors:
        output = _known(factor.compute_output_shape((None, *shape)))
        total += layer_macs(factor, [shape], output)
        shape = output
    return total


def _output_channels(layer: Any) -> int:
    """How many values of the output one use of an einsum kernel gives."""
    operands, _, output = layer.equation.partition("->")
    labels = operands.partition(",")[2]
    sizes = zip(labels, layer.kernel.shape, strict=True)
    return math.prod(size for label, size in sizes if label in output)


def _attention_macs(layer: Any, inputs: list[tuple[int, ...]]) -> int:
    queries = math.prod(inputs[0][:-1])
    values = math.prod(inputs[min(1, len(inputs) - 1)][:-1])
    gate = getattr(layer, "_gate_dense", None)
    asked = [layer.query_dense, layer.output_dense, gate]
    projected = sum(queries * _weights(d) for d in asked if d is not None)
    for dense in (layer.key_dense, layer.value_dense):
        projected += values * _weights(dense)
    per_pair = layer.num_heads * (layer.key_dim + layer.value_dim)
    return int(projected + queries * values * per_pair)
