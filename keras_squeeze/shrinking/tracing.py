"""The walk through the graph of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import (
    Functional,
    functional_like_constructor,
)
from numpy.typing import NDArray

from keras_squeeze.shrinking.call import Call
from keras_squeeze.shrinking.channels import Channels
from keras_squeeze.shrinking.rules import apply_rule
from keras_squeeze.shrinking.shape_rules import input_layer
from keras_squeeze.shrinking.trace import Trace
from keras_squeeze.surgery.layer_tree import walk_layers


def graph_of(layer: Any) -> Any | None:
    """The graph behind a layer, if its config and its call are that graph.

    Args:
        layer: A layer or model.

    Returns:
        `Functional` or `None`.
    """
    kind = type(layer)
    if isinstance(layer, keras.Sequential):
        plain = (kind.call, kind.__init__) == (
            keras.Sequential.call,
            keras.Sequential.__init__,
        )
        return layer._functional if plain else None
    if isinstance(layer, Functional) and functional_like_constructor(kind):
        return layer if kind.call is Functional.call else None
    return None


def trace_model(
    model: Any, removed: NDArray[np.bool_] | None = None
) -> Trace | None:
    """Follows the channels of a model from its inputs to its outputs.

    Args:
        model: A built `keras.Model`.
        removed: Optional boolean array indexed by channel id, of an earlier
            trace of the same model: these channels are followed as if the
            weights that make them were zero.

    Returns:
        `Trace`, or `None` if the model is no graph of layers.
    """
    graph = graph_of(model)
    if graph is None:
        return None
    walk = _Walk(Trace(removed), {id(x): p for p, x in walk_layers(model)})
    shapes = [tensor.shape for tensor in graph.inputs]
    start = [walk.source(shape) for shape in shapes]
    for channels in walk.run(graph, start, is_model=True):
        walk.trace.groups.lock(channels.ids, "", "they are the model's output")
    walk.trace.lock_opaque()
    return walk.trace


class _Walk:
    def __init__(self, trace: Trace, paths: dict[int, str]) -> None:
        self.trace = trace
        self._paths = paths

    def source(self, shape: Any) -> Channels:
        """The channels of an input of the model: they must stay."""
        ids = self.trace.groups.new((shape[-1] or 0) if len(shape) > 1 else 0)
        self.trace.groups.lock(ids, "", "they are the model's input")
        return Channels(ids, np.full(len(ids), np.nan))

    def run(
        self, graph: Any, inputs: list[Channels], is_model: bool = False
    ) -> list[Channels]:
        found = {
            id(tensor): channels
            for tensor, channels in zip(graph.inputs, inputs, strict=True)
        }
        for node in nodes_in_order(graph):
            if node.is_input:
                if not is_model:
                    self._enter(node, found)
                continue
            outputs = self._node(
                node, [found[id(t)] for t in node.input_tensors]
            )
            for tensor, channels in zip(node.outputs, outputs, strict=True):
                found[id(tensor)] = channels
        return [found[id(tensor)] for tensor in graph.outputs]

    def _enter(self, node: Any, found: dict[int, Channels]) -> None:
        (tensor,) = node.outputs
        channels = found.get(id(tensor))
        if channels is not None:
            input_layer(self._call(node, [channels], [tensor]))

    def _node(self, node: Any, inputs: list[Channels]) -> list[Channels]:
        call = self._call(node, inputs, node.input_tensors)
        graph = graph_of(node.operation)
        if graph is None:
            return apply_rule(call)
        entry = keras.tree.flatten(graph.inputs)
        same_rank = [len(t.shape) for t in entry] == [
            len(t.shape) for t in node.input_tensors
        ]
        if not same_rank:
            return call.give_up("it is called with inputs of another rank")
        self.trace.understood.add(id(node.operation))
        return self.run(graph, inputs)

    def _call(self, node: Any, inputs: list[Channels], tensors: Any) -> Call:
        operation = node.operation
        return Call(
            self.trace,
            operation,
            self._paths.get(id(operation), operation.name),
            tuple(inputs),
            tuple(tuple(t.shape) for t in tensors),
            tuple(tuple(t.shape) for t in node.outputs),
            tuple(tensors),
            node.arguments,
            operation,
        )


def nodes_in_order(graph: Any) -> Iterator[Any]:
    """The calls that make up a graph, each after those it depends on.

    Args:
        graph: `Functional`.

    Yields:
        Keras' nodes.
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]
