"""Channels of layers that move, pool, pad and reshape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_squeeze.shrinking.call import Call, Shape, channel_axis
from keras_squeeze.shrinking.channels import Channels


def input_layer(call: Call) -> list[Channels]:
    """`InputLayer` of a nested model: its shape counts channels."""
    x = call.inputs[0]
    if len(x.ids) and len(call.shapes[0]) >= -x.axis:
        call.width("batch_shape", x.ids, index=x.axis)
    return [x]


def pooling(call: Call) -> list[Channels]:
    """Poolings over places, whose borders are not counted."""
    x = call.expect(channel_axis(call.layer, len(call.shapes[0])))
    if call.layer.padding != "valid" and call.layer.pool_mode == "average":
        return [x.valued(np.where(x.constants == 0, 0.0, np.nan))]
    return [x]


def global_pooling(call: Call) -> list[Channels]:
    """Poolings over all places."""
    rank = len(call.shapes[0])
    x = call.expect(channel_axis(call.layer, rank))
    kept = call.layer.keepdims
    return [Channels(x.ids, x.constants, x.axis if kept else -1)]


def zero_padding(call: Call) -> list[Channels]:
    """`ZeroPadding1D` to `3D`: only a zero stays constant."""
    axis = -1
    if hasattr(call.layer, "data_format"):
        axis = channel_axis(call.layer, len(call.shapes[0]))
    x = call.expect(axis)
    return [x.valued(np.where(x.constants == 0, 0.0, np.nan))]


def spatial(call: Call) -> list[Channels]:
    """Cropping and up-sampling: channels keep their places."""
    axis = -1
    if hasattr(call.layer, "data_format"):
        axis = channel_axis(call.layer, len(call.shapes[0]))
    return [call.expect(axis)]


def repeat_vector(call: Call) -> list[Channels]:
    """`RepeatVector`: (batch, channels) to (batch, n, channels)."""
    return [call.expect(-1)]


def flatten(call: Call) -> list[Channels]:
    """`Flatten`: every place of a channel becomes a channel of its group."""
    if getattr(call.layer, "data_format", None) == "channels_first":
        return call.give_up("it transposes before it flattens")
    return _reshaped(call)


def reshape(call: Call) -> list[Channels]:
    """`Reshape` that leaves channels whole, or lays their places in a row."""
    (y,) = _reshaped(call)
    axis = len(call.outputs[0]) - 1 + y.axis
    if call.layer.target_shape[axis] != -1:
        call.width("target_shape", y.ids, index=axis)
    return [y]


def permute(call: Call) -> list[Channels]:
    """`Permute`: the channels move to another axis."""
    x, rank = call.inputs[0], len(call.shapes[0])
    axis = [0, *call.layer.dims].index(x.axis % rank) - rank
    return [Channels(x.ids, x.constants, axis)]


def _reshaped(call: Call) -> list[Channels]:
    x = call.inputs[0]
    found = locate(call.shapes[0], x.axis, call.outputs[0])
    if found is None:
        return call.give_up("it splits the channels among several axes")
    axis, positions = found
    return [x.take(positions, axis)]


def locate(
    before: Shape, axis: int, after: Shape
) -> tuple[int, np.ndarray] | None:
    """Where the channels of a tensor are after a reshape.

    Args:
        before: Tuple. The shape before, batch axis included.
        axis: Negative integer. The channel axis before.
        after: Tuple. The shape after.

    Returns:
        The channel axis after, and for each place on it the channel that lies
        there; `None` if no axis tells channels apart.

    Example:
    >>> locate((None, 2, 3), -1, (None, 6))
    (-1, array([0, 1, 2, 0, 1, 2]))
    """
    channels = before[axis]
    inner = _product(before[axis:][1:])
    if channels is None or inner is None:
        return None
    for new_axis in range(-1, -len(after), -1):
        size, below = after[new_axis], _product(after[new_axis:][1:])
        if size is None or below is None or inner % below:
            continue
        if (size * below) % (channels * inner) == 0:
            places = np.arange(size) * below // inner
            return new_axis, places % channels
    return None


def _product(shape: Sequence[int | None]) -> int | None:
    return None if None in shape else math.prod(shape)  # type: ignore[arg-type]
