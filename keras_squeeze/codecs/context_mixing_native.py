"""The compiled kernel of `context_mixing`.

It has no tables and allocates nothing: it is handed pointers to both. It
checks nothing but the ends of the bytes, so that everything handed over here
must fit.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from keras_squeeze import native
from keras_squeeze.codecs import context_mixing_model as models
from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs.context_mixing_model import Model
from keras_squeeze.errors import SqueezeError

_POINTERS = (
    *("squash", "stretch", "rates", "logarithms"),
    *("prior_nodes", "prior_halves", "starts", "sets"),
    *("next_states", "states", "levels", "bytes"),
    *("slots", "weights", "sums", "parts"),
)
_LONGS = ("channels", "taps", "width", "inputs", "length", "chains", "mean")
_INTEGERS = (
    *("mean_class", "buckets", "classes", "nodes", "hole"),
    *("sign_mode", "decoding", "portable", "first_channel"),
    "top",
)


# Slots a thread keeps for the next block: models of up to 16 bits.
_MOST_KEPT = 1 << 20
_kept = threading.local()


class _Job(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _LONGS),
        *((name, ctypes.c_int32) for name in _INTEGERS),
    )


def kernel() -> Any:
    """The compiled function, `None` where there is none."""
    return native.function(
        "ks_context_mixing", ctypes.c_int64, (ctypes.POINTER(_Job),)
    )


def costs_kernel() -> Any:
    """The compiled function for costs, `None` where there is none."""
    return native.function(
        "ks_context_mixing_costs",
        ctypes.c_int64,
        (ctypes.POINTER(_Job), ctypes.c_void_p, ctypes.c_void_p),
    )


def encode(
    model: Model,
    values: np.ndarray,
    width: int,
    states: np.ndarray | None = None,
    first_channel: int = 0,
    portable: bool = False,
) -> bytes:
    """Codes one block; the arguments are those of the reference's `Scan`.

    Args:
        model: `Model`.
        values: int32 array of shape `(channels, taps, inputs)`.
        width: Integer, the taps of a row.
        states: Optional uint8 array, changed in place.
        first_channel: Integer. Defaults to `0`.
        portable: Boolean, whether to use no vector instructions.

    Returns:
        The bytes.

    Raises:
        SqueezeError: If the values do not come from the trellis.
    """
    values = np.ascontiguousarray(values, np.int32)
    start = None if states is None else states.copy()
    out = np.empty(64 + 2 * values.size, np.uint8)
    used = _run(
        model, values, width, out, states, first_channel, False, portable
    )
    if used < 0:
        raise SqueezeError(
            "Expected codes of the given trellis. Received: others in channels "
            f"{first_channel}..{first_channel + len(values) - 1}"
        )
    if used > out.size:
        out = np.empty(used, np.uint8)
        if states is not None and start is not None:
            states[...] = start
        _run(model, values, width, out, states, first_channel, False, portable)
    return out[:used].tobytes().rstrip(b"\0")


def decode(
    model: Model,
    data: bytes | memoryview,
    values: np.ndarray,
    width: int,
    states: np.ndarray | None = None,
    first_channel: int = 0,
    portable: bool = False,
) -> bool:
    """Decodes one block into a C-contiguous int32 array.

    Args:
        model: `Model`.
        data: The bytes.
        values: int32 array of shape `(channels, taps, inputs)` to write to.
        width: Integer, the taps of a row.
        states: Optional uint8 array, changed in place.
        first_channel: Integer. Defaults to `0`.
        portable: Boolean, whether to use no vector instructions.

    Returns:
        Whether an encoder would have written exactly these bytes.
    """
    source = np.frombuffer(data, np.uint8)
    used = _run(
        model, values, width, source, states, first_channel, True, portable
    )
    return source.size <= used and not (source.size and source[-1] == 0)


def weigh(
    model: Model,
    values: np.ndarray,
    width: int,
    states: np.ndarray,
    first_channel: int,
    wanted: np.ndarray,
    costs: np.ndarray,
    portable: bool = False,
) -> None:
    """What other levels would cost; see `context_mixing_costs`.

    Args:
        model: `Model`, with a trellis.
        values: int32 array of shape `(channels, taps, inputs)`.
        width: Integer, the taps of a row.
        states: uint8 array, changed in place.
        first_channel: Integer.
        wanted: C-contiguous float32 array of the shape of `values`.
        costs: C-contiguous uint16 array, with two axes of 2 and 4 more.
        portable: Boolean, whether to use no vector instructions.

    Raises:
        SqueezeError: If the values do not come from the trellis.
    """
    nothing = np.empty(0, np.uint8)
    used = _run(
        *(model, values, width, nothing, states, first_channel),
        *(False, portable, (wanted, costs)),
    )
    if used < 0:
        raise SqueezeError(
            "Expected codes of the given trellis. Received: others in channels "
            f"{first_channel}..{first_channel + len(values) - 1}"
        )


def _run(
    model: Model,
    values: np.ndarray,
    width: int,
    data: np.ndarray,
    states: np.ndarray | None,
    first_channel: int,
    decoding: bool,
    portable: bool,
    weighed: tuple[np.ndarray, np.ndarray] | None = None,
) -> int:
    channels, taps, inputs = values.shape
    priors = model.priors
    nodes = priors.nodes.shape[1]
    contexts = sum(model.context_sizes(taps, inputs))
    slots = contexts * nodes + priors.halves.size + models.SIGN_SLOTS
    # The kernel keeps 16 bytes for each input besides its sums.
    sums = taps * inputs + 4 * inputs + taps
    arrays = {
        "squash": tables.squash(),
        "stretch": tables.stretch(),
        "rates": tables.rates(),
        "logarithms": tables.logarithms(),
        "prior_nodes": priors.nodes,
        "prior_halves": priors.halves,
        "starts": priors.starts,
        "sets": models.mixer_sets(model.buckets, bool(model.states)),
        "next_states": model.next_states,
        "states": states,
        "levels": values,
        "bytes": data,
        "slots": _working_memory("slots", slots, np.uint32),
        "weights": np.empty(models.SETS * models.CONTEXTS, np.int32),
        "sums": np.empty(sums, np.int64),
        "parts": _components_memory(model, taps * inputs),
    }
    job = _Job(
        **{name: _address(array) for name, array in arrays.items()},
        channels=channels,
        taps=taps,
        width=width,
        inputs=inputs,
        length=data.size,
        chains=1 if states is None else states.size,
        mean=model.mean,
        mean_class=model.mean_class,
        buckets=model.buckets,
        classes=model.classes,
        nodes=nodes,
        hole=model.hole,
        sign_mode=model.sign_mode,
        decoding=decoding,
        portable=portable,
        first_channel=first_channel,
        top=model.top,
    )
    if weighed is None:
        return int(kernel()(job))
    return int(costs_kernel()(job, *map(_address, weighed)))


def _components_memory(model: Model, places: int) -> np.ndarray | None:
    if model.sign_mode != models.PREDICTED_SIGNS:
        return None
    # 32 bits of each place, and 16 for every component, twice, and one more.
    return np.empty((2 * models.COMPONENTS + 3) * places // 2 + 1, np.int32)


def _working_memory(name: str, size: int, dtype: type) -> np.ndarray:
    """Memory that each thread keeps: fresh pages would cost more than use."""
    memory = getattr(_kept, name, None)
    if memory is None or memory.size < size:
        memory = np.empty(size, dtype)
        if size <= _MOST_KEPT:
            setattr(_kept, name, memory)
    return memory


def _address(array: np.ndarray | None) -> int | None:
    return None if array is None else int(array.ctypes.data)
