"""Channels of dense, convolutional and embedding layers."""

from __future__ import annotations

import numpy as np

from keras_squeeze.shrinking.call import Call, channel_axis
from keras_squeeze.shrinking.channels import Channels, Constants, unknown
from keras_squeeze.shrinking.trace import (
    COMPANION,
    FILTER,
    PRODUCER,
    READER,
)


def dense(call: Call) -> list[Channels]:
    """`Dense`: mixes the last axis, wherever its inputs come from."""
    layer = call.layer
    out = call.new(layer.units)
    x = call.expect(-1)
    y = call.read(x, layer.kernel, (0, 1), out, True, layer.bias)
    call.width("units", out, is_output=True)
    return [call.activated(y, layer.activation)]


def einsum_dense(call: Call) -> list[Channels]:
    """`EinsumDense` where it is a dense layer on the last axis."""
    layer = call.layer
    inputs, kernel, outputs = layer.equation.replace("->", ",").split(",")
    inputs, outputs = inputs.replace("...", ""), outputs.replace("...", "")
    is_dense = (
        len(kernel) == 2
        and set(kernel) == {inputs[-1], outputs[-1]}
        and inputs[:-1] == outputs[:-1]
        and (layer.bias is None or len(layer.bias.shape) == 1)
    )
    if not is_dense:
        return call.give_up(f"it computes {layer.equation!r}")
    axes = (kernel.index(inputs[-1]), kernel.index(outputs[-1]))
    out = call.new(layer.kernel.shape[axes[1]])
    x = call.expect(-1)
    # Its config says which axes have a bias, not whether there is one.
    foldable = layer.bias is not None
    y = call.read(x, layer.kernel, axes, out, foldable, layer.bias)
    call.width("output_shape", out, is_output=True, index=-1)
    return [call.activated(y, layer.activation)]


def convolution(call: Call) -> list[Channels]:
    """`Conv1D`, `Conv2D`, `Conv3D`."""
    layer = call.layer
    x = call.expect(channel_axis(layer, len(call.shapes[0])))
    if layer.groups > 1:
        return _grouped(call, x)
    out = call.new(layer.filters)
    # At a padded border a constant input is not constant.
    foldable = layer.padding == "valid" or set(layer.kernel_size) == {1}
    y = call.read(x, layer.kernel, (-2, -1), out, foldable, layer.bias)
    call.width("filters", out, is_output=True)
    return [call.activated(y, layer.activation)]


def _grouped(call: Call, x: Channels) -> list[Channels]:
    """Whole groups of a grouped convolution: inputs, kernel and outputs."""
    layer = call.layer
    out = call.new(layer.filters)
    inputs, outputs = (ids.reshape(layer.groups, -1) for ids in (x.ids, out))
    for members in (*inputs[:, 1:].T, *outputs.T):
        call.trace.groups.tie(inputs[:, 0], members)
    call.bind(layer.kernel, -1, out, PRODUCER)
    call.bind(layer.bias, 0, out, COMPANION)
    call.width("filters", out, is_output=True)
    call.width("groups", x.ids, divisor=inputs.shape[1])
    kernel = call.value(layer.kernel)
    silent = ~kernel.reshape(-1, layer.filters).any(axis=0)
    zero = (x.constants.reshape(layer.groups, -1) == 0).all(axis=1)
    silent |= np.repeat(zero, outputs.shape[1])
    y = Channels(out, _bias_where(silent, call), x.axis)
    return [call.activated(y, layer.activation)]


def _bias_where(silent: np.ndarray, call: Call) -> Constants:
    bias = call.layer.bias
    values = 0.0 if bias is None else call.value(bias)
    return np.where(silent, values, np.nan)


def transposed_convolution(call: Call) -> list[Channels]:
    """`Conv1DTranspose`, `Conv2DTranspose`, `Conv3DTranspose`."""
    layer = call.layer
    out = call.new(layer.filters)
    x = call.expect(channel_axis(layer, len(call.shapes[0])))
    y = call.read(x, layer.kernel, (-1, -2), out, False, layer.bias)
    call.width("filters", out, is_output=True)
    return [call.activated(y, layer.activation)]


def depthwise_convolution(call: Call) -> list[Channels]:
    """`DepthwiseConv1D`, `DepthwiseConv2D`: a channel makes its own."""
    layer = call.layer
    x = call.expect(channel_axis(layer, len(call.shapes[0])))
    y = x.take(np.repeat(np.arange(len(x.ids)), layer.depth_multiplier))
    call.bind(layer.kernel, -2, x.ids, FILTER)
    call.bind(layer.bias, 0, y.ids, COMPANION)
    # The output channels are the input's, each as often as the multiplier.
    taps = call.value(layer.kernel).reshape(-1, len(y.ids))
    padded = layer.padding != "valid" and set(layer.kernel_size) != {1}
    part = y.constants * taps.sum(axis=0)
    part = np.where(padded & (y.constants != 0), np.nan, part)
    part = np.where(taps.any(axis=0), part, 0.0)
    bias = 0.0 if layer.bias is None else call.value(layer.bias)
    return [call.activated(y.valued(part + bias), layer.activation)]


def separable_convolution(call: Call) -> list[Channels]:
    """`SeparableConv1D`, `SeparableConv2D`."""
    layer = call.layer
    x = call.expect(channel_axis(layer, len(call.shapes[0])))
    out = call.new(layer.filters)
    call.bind(layer.depthwise_kernel, -2, x.ids, READER)
    spread = x.take(np.repeat(np.arange(len(x.ids)), layer.depth_multiplier))
    taps = call.value(layer.depthwise_kernel).reshape(-1, len(spread.ids))
    silent = (spread.constants == 0) | ~taps.any(axis=0)
    middle = spread.valued(np.where(silent, 0.0, np.nan))
    y = call.read(
        middle, layer.pointwise_kernel, (-2, -1), out, False, layer.bias
    )
    call.width("filters", out, is_output=True)
    return [call.activated(y, layer.activation)]


def embedding(call: Call) -> list[Channels]:
    """`Embedding`: makes the channels of its rows."""
    layer = call.layer
    out = call.new(layer.output_dim)
    call.lock(call.inputs[0].ids, "they are indices")
    call.bind(layer._embeddings, 1, out, PRODUCER)
    call.width("output_dim", out, is_output=True)
    silent = ~call.value(layer._embeddings).any(axis=0)
    return [unknown(out).valued(np.where(silent, 0.0, np.nan))]
