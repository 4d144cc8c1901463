"""Channels that pass through a layer, or that several layers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_squeeze.shrinking.call import Call
from keras_squeeze.shrinking.channels import Channels, Constants
from keras_squeeze.shrinking.constants import evaluate, multiply

Combine = Callable[..., Constants]


def identity(call: Call) -> list[Channels]:
    """Layers that change nothing at inference, and poolings of any axis."""
    return [call.inputs[0]]


def dropout(call: Call) -> list[Channels]:
    """`Dropout`, unless its noise has a fixed number of channels."""
    x = call.inputs[0]
    noise_shape = call.layer.noise_shape
    if noise_shape is not None and noise_shape[x.axis] not in (None, 1):
        call.lock(x.ids, f"its noise_shape is {tuple(noise_shape)}")
    return [x]


def activation(call: Call) -> list[Channels]:
    """`Activation` with a function of `keras.activations`."""
    return [call.activated(call.inputs[0], call.layer.activation)]


def activation_layer(call: Call) -> list[Channels]:
    """`ReLU`, `LeakyReLU`, `ELU`."""
    return [call.activated(call.inputs[0], call.layer)]


def rescaling(call: Call) -> list[Channels]:
    """`Rescaling` by one number."""
    layer, x = call.layer, call.inputs[0]
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        return call.give_up("it has numbers of its own for each channel")
    return [x.valued(x.constants * layer.scale + layer.offset)]


def merge(call: Call) -> list[Channels]:
    """`Add`, `Subtract`, `Average`, `Maximum`, `Minimum` and the like."""
    layer = call.layer
    function = getattr(layer, "_merge_function", layer.call)
    return _merged(
        call, lambda *values: evaluate(lambda *t: function(list(t)), *values)
    )


def product(call: Call) -> list[Channels]:
    """`Multiply`: a zero on one side is enough."""
    return _merged(call, multiply)


def elementwise_operation(call: Call) -> list[Channels]:
    """Operations of `keras.ops` on tensors and plain numbers."""
    operation = call.layer

    def compute(*values: Any) -> Any:
        given = iter(values)
        tensors = {id(t) for t in call.tensors}
        args, kwargs = keras.tree.map_structure(
            lambda a: next(given) if id(a) in tensors else a,
            (call.arguments.args, call.arguments.kwargs),
        )
        return operation.call(*args, **kwargs)

    if _arrays(call):
        return call.give_up("it takes an array beside its inputs")
    if type(operation).__name__ == "Multiply" and len(call.tensors) > 1:
        return _merged(call, multiply)
    return _merged(call, lambda *values: evaluate(compute, *values))


def _arrays(call: Call) -> bool:
    tensors = {id(tensor) for tensor in call.tensors}
    given = keras.tree.flatten((call.arguments.args, call.arguments.kwargs))
    return any(
        np.ndim(a) > 0 for a in given if id(a) not in tensors and a is not None
    )


def _merged(call: Call, combine: Combine) -> list[Channels]:
    """Ties what meets, place by place; what is broadcast stays."""
    full = max(call.inputs, key=lambda channels: len(channels.ids))
    size, axis = len(full.ids), full.axis
    values = []
    for channels, shape in zip(call.inputs, call.shapes, strict=True):
        meets = channels.axis == axis and len(channels.ids) == size
        if meets and shape[axis] == size:
            call.trace.groups.tie(full.ids, channels.ids)
            values.append(channels.constants)
        elif len(shape) < -axis or shape[axis] == 1:
            call.lock(channels.ids, "it is broadcast over channels")
            values.append(np.full(1, np.nan))
        else:
            return call.give_up("its inputs have channels on several axes")
    return [full.valued(np.broadcast_to(combine(*values), (size,)))]


def concatenate(call: Call) -> list[Channels]:
    """`Concatenate` along the channels, or along another axis."""
    rank = len(call.shapes[0])
    axis = call.layer.axis % rank - rank
    axes = {channels.axis for channels in call.inputs}
    if axes == {axis}:
        return [
            Channels(
                np.concatenate([c.ids for c in call.inputs]),
                np.concatenate([c.constants for c in call.inputs]),
                axis,
            )
        ]
    if len(axes) > 1:
        return call.give_up("its inputs have channels on several axes")
    first = call.inputs[0]
    values = first.constants
    for other in call.inputs[1:]:
        call.trace.groups.tie(first.ids, other.ids)
        values = np.where(values == other.constants, values, np.nan)
    return [first.valued(values)]
