"""All that calibration may change of a model, to be put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_squeeze.surgery.layer_tree import (
    named_variables,
    to_numpy,
    walk_layers,
)
from keras_squeeze.surgery.optimizer_migration import renew_functions

_PLAIN = (list, dict, set)


class ModelSnapshot:
    """The classes, variables and values of a live model's layers.

    Layers that are added to a model or taken from it are not put back, nor
    are optimizers.

    Args:
        model: A built `keras.Model`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._values = [
            (variable, np.array(to_numpy(variable)))
            for variable in named_variables(model).values()
        ]
        self._layers = [_LayerState(layer) for _, layer in walk_layers(model)]

    def restore(self) -> None:
        """Gives the model the structure and the values that it had."""
        for layer in self._layers:
            layer.restore()
        for variable, value in self._values:
            variable.assign(value)
        if isinstance(self.model, keras.Model):
            renew_functions(self.model)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """While open, the model may be changed; it is restored in the end.

        Yields:
            Nothing.
        """
        try:
            yield
        finally:
            self.restore()

    @contextmanager
    def shown(self) -> Iterator[Any]:
        """While open, the model is what it was; then what it is now.

        Yields:
            The model.
        """
        with ModelSnapshot(self.model).put_back():
            self.restore()
            yield self.model

    def move_into(self, target: Any) -> None:
        """`restore`; `target` is the model itself.

        Args:
            target: The `keras.Model` of which this is a snapshot.
        """
        self.restore()


class _LayerState:
    """The class and the attributes of a layer, lists with what they hold."""

    def __init__(self, layer: Any) -> None:
        self._layer, self._class = layer, type(layer)
        self._attributes = dict(vars(layer))
        ids = layer._tracker.stored_ids
        calls = [node.arguments.kwargs for node in layer._inbound_nodes]
        held = [*self._attributes.values(), *ids.values(), *calls]
        self._held = [(v, type(v)(v)) for v in held if type(v) in _PLAIN]

    def restore(self) -> None:
        layer = self._layer
        layer.__class__ = self._class
        # Past `__setattr__`, with which Keras tracks what it is given.
        vars(layer).clear()
        vars(layer).update(self._attributes)
        for container, content in self._held:
            _fill(container, content)


def _fill(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
        return
    container.clear()
    container.update(content)
