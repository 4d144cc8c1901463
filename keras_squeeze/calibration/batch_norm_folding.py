"""Batch normalization becomes part of the layer before it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.channels import (
    add_bias,
    channel_axis_of_outputs,
    is_plain,
    scale_outputs,
)
from keras_squeeze.calibration.layer_graph import LayerCall, LayerGraph
from keras_squeeze.layers.class_change import change_class
from keras_squeeze.layers.tracked_variables import drop_variable, unlocked
from keras_squeeze.surgery.layer_tree import to_numpy


#: What Keras notes about the class when an object is made.
def fold_batch_norm(model: Any) -> list[Any]:
    """Folds batch normalization into the layers before it, in place.

    A Dense or convolutional layer whose outputs only a BatchNormalization
    reads takes over its factors and its offset; the normalization becomes an
    `Identity` layer. Predictions stay as they are, up to rounding.

    Args:
        model: A built `keras.Model`: Sequential or Functional, nested or not.
            In models with a `call` of their own nothing is found.

    Returns:
        List of the layers that took over a normalization.

    Example:
    >>> L = keras.layers
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), L.Dense(2), L.BatchNormalization()]
    ... )
    >>> [type(layer).__name__ for layer in fold_batch_norm(model)]
    ['Dense']
    >>> type(model.layers[1]).__name__
    'Identity'

    References:
        - Jacob et al., 2017, Quantization and training of neural networks for
          efficient integer-arithmetic-only inference:
          https://arxiv.org/abs/1712.05877
    """
    graph = LayerGraph(model)
    folded = []
    for call in graph.calls:
        norm = normalization_after(graph, call)
        if norm is not None:
            _fold(call.layer, norm)
            folded.append(call.layer)
    return folded


def normalization_after(graph: LayerGraph, call: LayerCall) -> Any | None:
    """The batch normalization that can be folded into the layer of a call.

    Args:
        graph: `LayerGraph`.
        call: `LayerCall` of the graph.

    Returns:
        A `BatchNormalization` layer or `None`.
    """
    layer = call.layer
    if not is_plain(layer) or graph.only_call(layer) is None:
        return None
    reader = graph.only_reader(call)
    if reader is None or reader.has_options:
        return None
    norm = reader.layer
    if type(norm) is not keras.layers.BatchNormalization:
        return None
    linear = layer.activation is keras.activations.linear
    if not linear or graph.only_call(norm) is None:
        return None
    rank = norm.input_spec.ndim
    same = norm.axis % rank == channel_axis_of_outputs(layer) % rank
    return norm if same else None


def affine_of(norm: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a batch normalization multiplies with and adds at inference.

    Args:
        norm: A built `BatchNormalization` layer.

    Returns:
        Pair of float64 arrays, one value a channel.
    """
    variance = to_numpy(norm.moving_variance).astype(np.float64)
    factor = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        factor = factor * to_numpy(norm.gamma)
    offset = -to_numpy(norm.moving_mean).astype(np.float64) * factor
    if norm.center:
        offset = offset + to_numpy(norm.beta)
    return factor, offset


def _fold(layer: Any, norm: Any) -> None:
    factor, offset = affine_of(norm)
    add_bias(layer)
    scale_outputs(layer, factor)
    layer.bias.assign(to_numpy(layer.bias) + offset)
    become_identity(norm)


def become_identity(layer: Any) -> None:
    """Turns a live layer into `Identity`, without any variables, in place.

    Args:
        layer: A built layer whose inputs and outputs have the same shape.
    """
    plain = keras.layers.Identity()
    held = [
        name
        for name, value in vars(layer).items()
        if isinstance(value, keras.Variable)
    ]
    with unlocked(layer):
        for name in held:
            drop_variable(layer, name)
        change_class(layer, keras.layers.Identity)
        layer._auto_config = plain._auto_config
        layer.input_spec = None
    for node in layer._inbound_nodes:
        # Keras noted the mask that its class takes; there was none.
        node.arguments.kwargs.clear()
