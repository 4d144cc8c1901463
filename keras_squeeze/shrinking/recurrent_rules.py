"""Channels of recurrent layers: their units."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_squeeze.shrinking.call import Call
from keras_squeeze.shrinking.channels import Channels, Ids, unknown
from keras_squeeze.shrinking.constants import (
    contract,
    evaluate,
    is_elementwise,
    multiply,
)
from keras_squeeze.shrinking.trace import COMPANION, PRODUCER, READER

# The gates of a unit, and which of them makes the new state.
_GATES = {
    keras.layers.LSTM: (4, 2),
    keras.layers.GRU: (3, 2),
    keras.layers.SimpleRNN: (1, 0),
}


def recurrent(call: Call) -> list[Channels]:
    """`LSTM`, `GRU`, `SimpleRNN`: a unit is a column of every gate."""
    if len(call.inputs) > 1:
        return call.give_up("it takes its first state from the graph")
    if call.layer.stateful:
        return call.give_up("it is stateful")
    y = _units(call, call.layer, call.keys, is_output=True)
    return [y for _ in call.outputs]


def bidirectional(call: Call) -> list[Channels]:
    """`Bidirectional`: both directions keep the same units."""
    layer = call.layer
    directions = (layer.forward_layer, layer.backward_layer)
    if (
        len(call.inputs) > 1
        or len(call.outputs) > 1
        or any(type(d) not in _GATES or d.stateful for d in directions)
        or directions[0].units != directions[1].units
    ):
        return call.give_up("it is used with states or cells of another kind")
    first, second = (
        _units(call, direction, (*call.keys, key, "config"), key == "layer")
        for key, direction in zip(
            ("layer", "backward_layer"), directions, strict=True
        )
    )
    call.trace.groups.tie(first.ids, second.ids)
    return [_directions(layer.merge_mode, first, second)]


def _directions(mode: str, first: Channels, second: Channels) -> Channels:
    if mode == "concat":
        return Channels(
            np.concatenate([first.ids, second.ids]),
            np.concatenate([first.constants, second.constants]),
        )
    if mode == "mul":
        return first.valued(multiply(first.constants, second.constants))
    factor = 0.5 if mode == "ave" else 1.0
    return first.valued((first.constants + second.constants) * factor)


def _units(
    call: Call, layer: Any, keys: tuple[str, ...], is_output: bool
) -> Channels:
    cell, x = layer.cell, call.expect(-1)
    gates, candidate = _GATES[type(layer)]
    out = call.new(layer.units)
    columns = np.tile(out, gates)
    call.bind(cell.kernel, 0, x.ids, READER)
    call.bind(cell.kernel, 1, columns, PRODUCER)
    call.bind(cell.recurrent_kernel, 0, out, READER)
    call.bind(cell.recurrent_kernel, 1, columns, PRODUCER)
    if cell.bias is not None:
        call.bind(cell.bias, -1, columns, COMPANION)
    inner = Call(**{**vars(call), "keys": keys})
    inner.width("units", out, is_output=is_output)
    if not all(map(is_elementwise, _activations(cell))):
        call.lock(out, "its activation may mix channels")
    silent = _silent(call, cell, x, slice(candidate * len(out), None))
    y = unknown(out).valued(np.where(silent[: len(out)], 0.0, np.nan))
    _, unread = contract(
        x.constants, call.value(cell.kernel), (0, 1), False, None
    )
    call.use(x, unread)
    recurrent = call.value(cell.recurrent_kernel) != 0
    call.use(y, np.logical_not(recurrent.any(axis=1)))
    return y


def _activations(cell: Any) -> list[Any]:
    return [cell.activation, getattr(cell, "recurrent_activation", None)]


def _silent(call: Call, cell: Any, x: Channels, columns: slice) -> Ids:
    """Units whose new state is zero at every step, and so their output."""
    varies = x.constants != 0
    kernel = call.value(cell.kernel)[varies][:, columns]
    silent = ~kernel.any(axis=0)
    silent &= ~call.value(cell.recurrent_kernel)[:, columns].any(axis=0)
    if cell.bias is not None:
        bias = call.value(cell.bias)
        silent &= ~bias.reshape(-1, bias.shape[-1])[:, columns].any(axis=0)
    at_rest = evaluate(cell.activation, np.zeros(1))[0] == 0
    found: Ids = silent & at_rest
    return found


RECURRENT_LAYERS = tuple(_GATES)
