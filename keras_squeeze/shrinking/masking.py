"""The model that a smaller one stands for: the same size, channels zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_squeeze.shrinking.choosing import ChannelIndices, no_graph
from keras_squeeze.shrinking.rebuilding import Cut, pairs, rebuild
from keras_squeeze.shrinking.selection import Candidates, mark
from keras_squeeze.shrinking.trace import zeroed
from keras_squeeze.shrinking.tracing import trace_model
from keras_squeeze.surgery.layer_tree import check_built, to_numpy


def mask_channels(model: Any, channels: ChannelIndices) -> Any:
    """Makes a copy of a model in which channels are zero.

    Zero become the weights and biases that make the channels, and the scale,
    offset and moving mean of the normalizations they pass, in all layers
    whose channels go together. `shrink(model, channels=channels)` removes
    them and computes the same.

    Args:
        model: A built Sequential or Functional `keras.Model`.
        channels: Mapping of the path of a layer to indices of its channels.

    Returns:
        A new model of the same shape.

    Raises:
        SqueezeError: If a path or an index does not exist, or a channel
            cannot be removed.
        UnbuiltModelError: If the model has no variables yet.
        UnsupportedModelError: If the model is no graph of layers.

    Example:
    >>> import keras
    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(3, name="first"),
    ...      keras.layers.Dense(1)]
    ... )
    >>> masked = mask_channels(model, {"first": [0, 2]})
    >>> masked.layers[0].kernel.numpy().any(axis=0).tolist()
    [False, True, False]
    """
    check_built(model)
    trace = trace_model(model)
    if trace is None:
        raise no_graph(model)
    candidates = Candidates(trace)
    marked = mark(candidates, candidates.named(channels))
    whole = Cut(trace, np.zeros_like(marked))
    copy = rebuild(model, whole)
    for _, variable, target in pairs(model, copy, whole):
        bindings = [b for b in trace.bindings if b.variable is variable]
        if bindings:
            value = zeroed(to_numpy(variable), bindings, marked.take)
            target.assign(np.ascontiguousarray(value))
    return copy
