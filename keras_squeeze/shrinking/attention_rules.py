"""Channels of `MultiHeadAttention`: its heads, their sizes, its outputs."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from keras_squeeze.shrinking.call import Call
from keras_squeeze.shrinking.channels import Channels, Ids, unknown
from keras_squeeze.shrinking.trace import COMPANION, PRODUCER, READER


def multi_head_attention(call: Call) -> list[Channels]:
    """`MultiHeadAttention` over the last axis of its inputs.

    Heads, the size of keys and the size of values are channels of their own,
    known as `<layer>/heads`, `<layer>/key` and `<layer>/value`.
    """
    layer = call.layer
    output_kernel = layer.output_dense.kernel
    if len(output_kernel.shape) != 3:
        return call.give_up("its output has several axes of channels")
    query, value, key = _inputs(call)
    heads, keys, values = (
        call.new(size)
        for size in (layer.num_heads, layer.key_dim, layer.value_dim)
    )
    for dense, x, sizes in _projections(layer, query, key, value, keys, values):
        _project(call, dense, x, heads, sizes)
    _count(call, heads, keys, values)
    _constants_inside(call, heads, keys, values)
    outputs = [_output(call, query, heads, values)]
    if len(call.outputs) > 1:
        reason = "its attention scores are an output"
        call.lock(heads, reason)
        outputs.append(call.locked(call.outputs[1], reason))
    return outputs


def _projections(
    layer: Any,
    query: Channels,
    key: Channels,
    value: Channels,
    keys: Ids,
    values: Ids,
) -> list[tuple[Any, Channels, Ids]]:
    projections = [
        (layer.query_dense, query, keys),
        (layer.key_dense, key, keys),
        (layer.value_dense, value, values),
    ]
    if getattr(layer, "_use_gate", False):
        projections.append((layer._gate_dense, query, values))
    return projections


def _inputs(call: Call) -> tuple[Channels, Channels, Channels]:
    """The channels of query, value and key; masks have none."""
    arguments = inspect.signature(call.layer.call).bind(
        *call.arguments.args, **call.arguments.kwargs
    )
    places = {id(tensor): i for i, tensor in enumerate(call.tensors)}
    given = [arguments.arguments.get(n) for n in ("query", "value", "key")]
    if given[2] is None:
        given[2] = given[1]
    attended = {id(tensor) for tensor in given}
    for tensor, channels in zip(call.tensors, call.inputs, strict=True):
        if id(tensor) not in attended:
            call.lock(channels.ids, "it is a mask")
    query, value, key = (call.expect(-1, places[id(t)]) for t in given)
    return query, value, key


def _project(
    call: Call, dense: Any, x: Channels, heads: Ids, sizes: Ids
) -> None:
    call.bind(dense.kernel, 0, x.ids, READER)
    call.bind(dense.kernel, 1, heads, PRODUCER)
    call.bind(dense.kernel, 2, sizes, PRODUCER)
    if dense.bias is not None:
        call.bind(dense.bias, 0, heads, COMPANION)
        call.bind(dense.bias, 1, sizes, COMPANION)
    reads = call.value(dense.kernel).any(axis=(1, 2))
    call.use(x, np.logical_not(reads))


def _count(call: Call, heads: Ids, keys: Ids, values: Ids) -> None:
    layer = call.layer
    call.width("num_heads", heads, "heads", is_output=True)
    call.width("key_dim", keys, "key", is_output=True)
    call.width("value_dim", values, "value", is_output=True)
    # Scores are divided by the root of the key's size, which changes.
    for variable in (layer.query_dense.kernel, layer.query_dense.bias):
        if variable is not None:
            call.trace.rescaled[id(variable)] = (variable, keys)


def _constants_inside(call: Call, heads: Ids, keys: Ids, values: Ids) -> None:
    layer = call.layer
    reads = call.value(layer.output_dense.kernel) != 0
    made = _made(call, layer.value_dense)
    for ids, axis, unread in (
        (heads, 0, ~reads.any(axis=(1, 2))),
        (values, 1, ~reads.any(axis=(0, 2))),
    ):
        silent = ~made.any(axis=1 - axis)
        x = unknown(ids).valued(np.where(silent, 0.0, np.nan))
        call.use(x, unread)
    asked = _made(call, layer.query_dense).any(axis=0)
    offered = _made(call, layer.key_dense).any(axis=0)
    x = unknown(keys).valued(np.where(asked & offered, np.nan, 0.0))
    call.use(x, np.zeros(len(keys), bool))


def _made(call: Call, dense: Any) -> np.ndarray:
    """Which places of which heads a projection makes: (heads, size)."""
    made = np.asarray(call.value(dense.kernel).any(axis=0))
    if dense.bias is not None:
        made = made | (call.value(dense.bias) != 0)
    return made


def _output(call: Call, query: Channels, heads: Ids, values: Ids) -> Channels:
    dense = call.layer.output_dense
    out = call.new(dense.kernel.shape[2])
    call.bind(dense.kernel, 0, heads, READER)
    call.bind(dense.kernel, 1, values, READER)
    call.bind(dense.kernel, 2, out, PRODUCER)
    call.bind(dense.bias, 0, out, COMPANION)
    call.width("output_shape", out, is_output=True, index=0, trigger=query.ids)
    silent = ~call.value(dense.kernel).any(axis=(0, 1))
    bias = 0.0 if dense.bias is None else call.value(dense.bias)
    return unknown(out).valued(np.where(silent, bias, np.nan))
