"""The compiled kernel that does what `rans_lanes.decode_lanes` does."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_squeeze import native

if TYPE_CHECKING:
    from keras_squeeze.codecs.rans_lanes import LaneStream

_POINTER = ctypes.c_void_p
_ARGUMENTS = (
    *(_POINTER, ctypes.c_int64, _POINTER, ctypes.c_int64, ctypes.c_int64),
    *(_POINTER, ctypes.c_int, _POINTER),
)


def decode_lanes(
    streams: Sequence[LaneStream],
) -> list[tuple[np.ndarray, bool]] | None:
    """Decodes streams one after the other.

    Args:
        streams: Sequence of `LaneStream`.

    Returns:
        What `rans_lanes.decode_lanes` returns, or `None` where there are no
        compiled kernels.
    """
    kernel = _kernel()
    if kernel is None:
        return None
    return [_decode(kernel, stream) for stream in streams]


def available() -> bool:
    """Whether there are compiled kernels."""
    return _kernel() is not None


def _kernel() -> Any:
    return native.function("ks_rans_lanes_decode", ctypes.c_int, _ARGUMENTS)


def _decode(kernel: Any, stream: LaneStream) -> tuple[np.ndarray, bool]:
    # Words may begin at an odd address, where kernels cannot read them.
    words = np.require(stream.words, np.uint16, ["C", "A"])
    table = np.ascontiguousarray(stream.table, np.uint32)
    states = np.array(stream.states, np.uint32, order="C")
    slots = np.empty((stream.steps, states.size), np.uint16)
    whole = kernel(
        words.ctypes.data,
        words.size,
        states.ctypes.data,
        states.size,
        stream.steps,
        table.ctypes.data,
        stream.precision,
        slots.ctypes.data,
    )
    return slots, bool(whole)
