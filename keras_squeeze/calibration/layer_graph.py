"""The calls of a model's layers: who reads what a layer computes."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

from keras_squeeze.shrinking.tracing import graph_of, nodes_in_order


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One call of a layer or of an operation of `keras.ops`.

    Args:
        layer: The layer or operation.
        inputs: Tuple of integers: the tensors it reads.
        outputs: Tuple of integers: the tensors it makes.
        node: Keras' record of the call.
    """

    layer: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    node: Any

    @property
    def has_options(self) -> bool:
        """Whether the layer is called with more than tensors."""
        arguments = self.node.arguments
        options = [v for v in arguments.kwargs.values() if v is not None]
        return len(arguments.args) > len(self.inputs) or bool(options)


class LayerGraph:
    """The calls of a Sequential or Functional model, nested ones unfolded.

    Models of a user's own `call` have no graph: they have no calls here, and
    nothing is found in them.

    Attributes:
        calls: List of `LayerCall`, each after those it depends on.
        inputs: List of integers, the tensors that the model is given.
        outputs: List of integers, the tensors that it returns.
        functional: Keras' `Functional` behind the model, or `None`.

    Args:
        model: A built `keras.Model`.

    Example:
    >>> import keras
    >>> layers = [keras.layers.Dense(2), keras.layers.ReLU(name="relu")]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> graph = LayerGraph(model)
    >>> graph.only_reader(graph.only_call(layers[0])).layer.name
    'relu'
    """

    def __init__(self, model: Any) -> None:
        self.calls: list[LayerCall] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._count = 0
        self.functional = graph_of(model)
        if self.functional is not None:
            self.inputs = [self._new() for _ in self.functional.inputs]
            self.outputs = self._run(self.functional, self.inputs)
        self._readers: dict[int, list[LayerCall]] = collections.defaultdict(
            list
        )
        self._calls: dict[int, list[LayerCall]] = collections.defaultdict(list)
        for call in self.calls:
            self._calls[id(call.layer)].append(call)
            for tensor in call.inputs:
                self._readers[tensor].append(call)

    def only_call(self, layer: Any) -> LayerCall | None:
        """The call of a layer that is called once.

        Args:
            layer: A Keras layer.

        Returns:
            `LayerCall`, or `None` if it is called never or several times.
        """
        calls = self._calls[id(layer)]
        return calls[0] if len(calls) == 1 else None

    def readers(self, call: LayerCall) -> list[LayerCall]:
        """All that read the one output of a call, in order.

        Args:
            call: `LayerCall`.

        Returns:
            List of `LayerCall`; empty if the model returns the output, or
            there are several outputs.
        """
        if len(call.outputs) != 1 or call.outputs[0] in self.outputs:
            return []
        return self._readers[call.outputs[0]]

    def only_reader(self, call: LayerCall) -> LayerCall | None:
        """The one call that reads the output of a call and nothing else.

        Args:
            call: `LayerCall`.

        Returns:
            `LayerCall`, or `None` if there are more readers or none.
        """
        readers = self.readers(call)
        if len(readers) != 1 or len(readers[0].inputs) != 1:
            return None
        return readers[0]

    def _new(self) -> int:
        self._count += 1
        return self._count

    def _run(self, graph: Any, inputs: list[int]) -> list[int]:
        found = {
            id(tensor): key
            for tensor, key in zip(graph.inputs, inputs, strict=True)
        }
        for node in nodes_in_order(graph):
            if node.is_input:
                continue
            read = [found[id(tensor)] for tensor in node.input_tensors]
            inner = graph_of(node.operation)
            if inner is None:
                made = [self._new() for _ in node.outputs]
                self.calls.append(
                    LayerCall(node.operation, tuple(read), tuple(made), node)
                )
            else:
                made = self._run(inner, read)
            for tensor, key in zip(node.outputs, made, strict=True):
                found[id(tensor)] = key
        return [found[id(tensor)] for tensor in graph.outputs]
