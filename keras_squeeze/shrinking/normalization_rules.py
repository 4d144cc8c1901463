"""Channels of normalization layers and of activations with weights."""

from __future__ import annotations

import numpy as np

from keras_squeeze.shrinking.call import Call
from keras_squeeze.shrinking.channels import Channels, Constants, unknown
from keras_squeeze.shrinking.trace import COMPANION, FOLLOWER


def batch_normalization(call: Call) -> list[Channels]:
    """`BatchNormalization`: each channel for itself."""
    layer, rank = call.layer, len(call.shapes[0])
    x = call.expect(layer.axis % rank - rank)
    for variable in (layer.gamma, layer.beta, layer.moving_mean):
        call.bind(variable, 0, x.ids, COMPANION)
    call.bind(layer.moving_variance, 0, x.ids, FOLLOWER)
    mean = call.value(layer.moving_mean).astype(np.float64)
    variance = call.value(layer.moving_variance).astype(np.float64)
    centered = (x.constants - mean) / np.sqrt(variance + layer.epsilon)
    return [x.valued(_scaled(call, centered))]


def _scaled(call: Call, values: Constants) -> Constants:
    layer = call.layer
    if layer.gamma is not None:
        gamma = call.value(layer.gamma)
        values = np.where(gamma == 0, 0.0, values * gamma)
    if layer.beta is not None:
        values = values + call.value(layer.beta)
    return values


def group_normalization(call: Call) -> list[Channels]:
    """`GroupNormalization`: whole groups, whose statistics are their own."""
    layer, rank = call.layer, len(call.shapes[0])
    x = call.expect(layer.axis % rank - rank)
    members = x.ids.reshape(layer.groups, -1)
    if layer.groups == 1:
        call.lock(x.ids, "its statistics run over all channels")
    for other in members[:, 1:].T:
        call.trace.groups.tie(members[:, 0], other)
    call.bind(layer.gamma, 0, x.ids, COMPANION)
    call.bind(layer.beta, 0, x.ids, COMPANION)
    call.width("groups", x.ids, divisor=members.shape[1])
    values = x.constants.reshape(members.shape)
    spread = np.sqrt(values.var(axis=1, keepdims=True) + layer.epsilon)
    centered = (values - values.mean(axis=1, keepdims=True)) / spread
    return [x.valued(_scaled(call, centered.reshape(-1)))]


def layer_normalization(call: Call) -> list[Channels]:
    """Layers whose statistics run over the channels: none can go."""
    return [_mixed(call, "its statistics run over all channels")]


def softmax(call: Call) -> list[Channels]:
    """`Softmax`, harmless where it runs over other axes."""
    axis, rank = call.layer.axis, len(call.shapes[0])
    axes = [axis] if isinstance(axis, int) else list(axis)
    x = call.inputs[0]
    if x.axis in [a % rank - rank for a in axes]:
        return [_mixed(call, "softmax runs over all channels")]
    return [unknown(x.ids, x.axis)]


def _mixed(call: Call, reason: str) -> Channels:
    x = call.inputs[0]
    call.lock(x.ids, reason)
    return unknown(x.ids, x.axis)


def prelu(call: Call) -> list[Channels]:
    """`PReLU`: a slope for each channel, or one shared by all."""
    x, alpha = call.inputs[0], call.layer.alpha
    if alpha.shape[x.axis] == len(x.ids):
        call.bind(alpha, len(alpha.shape) + x.axis, x.ids, FOLLOWER)
    values = np.where(x.constants >= 0, x.constants, np.nan)
    return [x.valued(values)]
