"""A model run call by call, with all batches side by side.

So every layer meets all calibration data at once, while the layers before it
are finished already: one pass through the model serves all of them.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import keras
from keras.src.backend import get_keras_mask, set_keras_mask

from keras_squeeze.calibration.layer_graph import LayerCall, LayerGraph


class Lane:
    """The tensors of a model between two of its calls, for every batch.

    A model without a graph of layers runs as one call.

    Args:
        model: A built `keras.Model`.
        batches: List of batches of its inputs.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    >>> lane = Lane(model, [keras.ops.ones((1, 2))])
    >>> for call in lane.calls:
    ...     lane.run(call)
    >>> lane.outputs()[0][0].shape
    TensorShape([1, 2])
    """

    def __init__(self, model: Any, batches: list[Any]) -> None:
        self.model = model
        self._graph = LayerGraph(model)
        self._values: dict[int, list[Any]] = {}
        if self._graph.functional is None:
            self._graph.inputs, self._graph.outputs = [0], [1]
            self.calls = [LayerCall(model, (0,), (1,), None)]
            self._values[0] = list(batches)
        else:
            self.calls = self._graph.calls
            for batch in batches:
                self._enter(self._graph.functional, batch)
        self._left = collections.Counter(self._graph.outputs)
        for call in self.calls:
            self._left.update(call.inputs)

    def _enter(self, functional: Any, batch: Any) -> None:
        tensors = functional._standardize_inputs(batch)
        for key, tensor in zip(self._graph.inputs, tensors, strict=True):
            self._values.setdefault(key, []).append(tensor)

    def arguments(self, call: LayerCall) -> list[tuple[Any, dict[str, Any]]]:
        """What a call is given, batch by batch.

        Args:
            call: `LayerCall` of this lane whose inputs are there.

        Returns:
            List of pairs of positional arguments and keywords.
        """
        columns = [self._values[key] for key in call.inputs]
        if call.node is None:
            return [(values, {}) for values in zip(*columns, strict=True)]
        ids = [id(tensor) for tensor in call.node.input_tensors]
        return [
            call.node.arguments.fill_in(dict(zip(ids, values, strict=True)))
            for values in zip(*columns, strict=True)
        ]

    def evaluate(self, call: LayerCall) -> list[Any]:
        """What a call returns, batch by batch; the lane is not changed.

        Args:
            call: `LayerCall`.

        Returns:
            List of structures of tensors.
        """
        return [
            _with_masks_kept(self._call, call.layer, args, keywords)
            for args, keywords in self.arguments(call)
        ]

    def _call(self, layer: Any, args: Any, keywords: dict[str, Any]) -> Any:
        if getattr(layer, "_call_has_training_arg", False):
            keywords = {"training": False, **keywords}
        return layer(*args, **keywords)

    def run(self, call: LayerCall) -> None:
        """Runs a call; tensors that no later call reads are forgotten.

        Args:
            call: `LayerCall`.
        """
        results = [
            self._call(call.layer, args, keywords)
            for args, keywords in self.arguments(call)
        ]
        flat = [keras.tree.flatten(result) for result in results]
        if call.node is None:
            self._values[1] = results
            return
        for key, values in zip(
            call.outputs, zip(*flat, strict=True), strict=True
        ):
            self._values[key] = list(values)
        self._left.subtract(call.inputs)
        for key in {*call.inputs, *call.outputs}:
            if self._left[key] <= 0:
                self._values.pop(key, None)

    def outputs(self) -> list[list[Any]]:
        """What the model returns after all calls: flat tensors a batch."""
        columns = [self._values[key] for key in self._graph.outputs]
        return [keras.tree.flatten(row) for row in zip(*columns, strict=True)]


def _with_masks_kept(
    function: Callable[..., Any], layer: Any, args: Any, keywords: Any
) -> Any:
    """Calls a layer; attention takes the masks off what it is given."""
    tensors = keras.tree.flatten([args, keywords])
    masks = [(each, get_keras_mask(each)) for each in tensors]
    try:
        return function(layer, args, keywords)
    finally:
        for tensor, mask in masks:
            if mask is not None:
                set_keras_mask(tensor, mask)
