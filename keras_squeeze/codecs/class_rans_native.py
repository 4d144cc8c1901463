"""Decoding `class_rans` by the compiled kernels, and what kernels take."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from keras_squeeze import native
from keras_squeeze.codecs import class_rans_layout, threads, trellis
from keras_squeeze.codecs.class_rans_contexts import Contexts
from keras_squeeze.codecs.class_rans_lanes import NO_ESCAPE, LaneStream
from keras_squeeze.codecs.class_rans_layout import Layout
from keras_squeeze.codecs.class_rans_table import PRECISION

#: The instruction sets the kernels have paths for, the portable one first.
ISAS = ("portable", "avx2", "avx512")

#: What kernels read, by the name of the dtype.
READ_KINDS = {"int8": 0, "int16": 1, "int32": 2, "uint8": 4}
_KIND_BY_SIZE = {1: 0, 2: 1, 4: 2, 8: 2}
_FLOAT_KIND = 3
_ARGUMENTS = {
    "p": ctypes.c_void_p,
    "q": ctypes.c_int64,
    "i": ctypes.c_int32,
    "d": ctypes.c_double,
}
_LANES = class_rans_layout.MAX_LANES
_LINE_BYTES = 64
_LARGE_BYTES = 1 << 16
# Below this a thread costs more than it saves.
TASK_ELEMENTS = 1 << 18
# The index of a tensor, its first block, and the one after its last.
_Task: TypeAlias = tuple[int, int, int]


class Job(ctypes.Structure):
    """`ks_job` of `class_rans.h`."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in (
                "tables",
                "channel_exponents",
                "position_exponents",
                "scale",
                "out",
            )
        ),
        *(
            (name, ctypes.c_int64)
            for name in (
                "channels",
                "positions",
                "count",
                "rows",
                "block_rows",
                "near_distance",
            )
        ),
        *(
            (name, ctypes.c_int32)
            for name in (
                "lanes",
                "highest",
                "merge",
                "class_stride",
                "near_stride",
                "near_threshold",
                "machine",
                "machine_grid",
                "machine_parity",
                "flat",
                "low",
                "shift",
                "escape",
                "escape_low",
                "escape_shift",
                "escape_base",
                "kind",
            )
        ),
    ]


def kernel_function(
    name: str, restype: Any, signature: str
) -> Callable[..., Any]:
    """Finds a kernel.

    Args:
        name: String.
        restype: A `ctypes` type.
        signature: String, a letter an argument: `p` for a pointer, `q` and
            `i` for integers of 64 and 32 bits, `d` for a double.

    Returns:
        The callable.

    Raises:
        RuntimeError: If there is no such kernel; ask `available` before.
    """
    kernel = native.function(name, restype, _arguments(signature))
    if kernel is None:
        raise RuntimeError(f"the compiled kernels lack {name}")
    return kernel


@functools.cache
def _arguments(signature: str) -> tuple[Any, ...]:
    return tuple(_ARGUMENTS[letter] for letter in signature)


def address(array: np.ndarray) -> int:
    """Where the first element of an array is."""
    where: int = array.ctypes.data
    return where


def available() -> bool:
    """Whether there are compiled kernels."""
    return native.function("ks_class_rans_isa", ctypes.c_int, ()) is not None


def best_isa() -> str:
    """The fastest of `ISAS` that this processor has."""
    ask = native.function("ks_class_rans_isa", ctypes.c_int, ())
    return ISAS[ask()] if ask is not None else ISAS[0]


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A tensor ready for the kernel, and the arrays the kernel points into."""

    stream: LaneStream
    job: Job
    out: np.ndarray
    kept: tuple[np.ndarray, ...]


def decode(
    streams: Sequence[LaneStream],
    dtypes: Sequence[np.dtype[Any]],
    origins: Sequence[int],
    isa: str | None = None,
    only: int | None = None,
) -> list[np.ndarray | None]:
    """Decodes tensors to integers.

    Args:
        streams: Sequence of `LaneStream`.
        dtypes: Sequence of dtypes, those of the arrays.
        origins: Sequence of integers, to be added to what lanes decode.
        isa: Optional string, one of `ISAS`. Defaults to the fastest one.
        only: Optional integer. The number of the only block of each stream
            that is decoded; the rest of the matrix is whatever it is.
            Defaults to `None`, all blocks.

    Returns:
        For each stream its matrix of shape `(positions, channels)`, or `None`
        if it is damaged. 8-byte dtypes come as int32 and without the origin.
    """
    prepared = []
    for stream, dtype, origin in zip(streams, dtypes, origins, strict=True):
        kind = _KIND_BY_SIZE[dtype.itemsize]
        wide = dtype.itemsize == 8
        out = _empty_matrix(stream, np.dtype(np.int32) if wide else dtype)
        prepared.append(_prepare(stream, out, kind, 0 if wide else origin))
    return _run(prepared, isa, only)


def decode_float(
    stream: LaneStream,
    origin: int,
    scale: np.ndarray,
    isa: str | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray | None:
    """Decodes a tensor to float32, multiplied by scales.

    Args:
        stream: `LaneStream`.
        origin: Integer below `2**30`, to be added to what lanes decode.
        scale: float32 array, one for each channel of the layout.
        isa: Optional string, one of `ISAS`. Defaults to the fastest one.
        out: Optional C-contiguous float32 array of as many elements as the
            matrix has, to be written. Defaults to `None`, a new one.

    Returns:
        float32 matrix of shape `(positions, channels)`, or `None` if the
        stream is damaged.
    """
    if out is None:
        out = _empty_matrix(stream, np.dtype(np.float32))
    matrix = out.reshape(stream.layout.positions, stream.layout.channels)
    prepared = _prepare(stream, matrix, _FLOAT_KIND, origin, scale)
    return _run([prepared], isa)[0]


def _empty_matrix(stream: LaneStream, dtype: np.dtype[Any]) -> np.ndarray:
    """An array that starts where a line of the cache does, if it is large.

    Rows are then whole lines, as the kernels like to write them.
    """
    layout = stream.layout
    shape = layout.positions, layout.channels
    size = layout.positions * layout.channels * dtype.itemsize
    if size < _LARGE_BYTES:
        return np.empty(shape, dtype)
    room = np.empty(size + _LINE_BYTES, np.uint8)
    skipped = -room.ctypes.data % _LINE_BYTES
    return room[skipped : skipped + size].view(dtype).reshape(shape)


def _prepare(
    stream: LaneStream,
    out: np.ndarray,
    kind: int,
    origin: int,
    scale: np.ndarray | None = None,
) -> _Prepared:
    arrays = exponent_arrays(stream.layout, stream.contexts)
    scales = _padded(np.zeros(1) if scale is None else scale, np.float32)
    job = make_job(stream.layout, stream.contexts, stream.block_rows, arrays)
    job.tables = stream.tables.ctypes.data
    job.scale = scales.ctypes.data
    job.out = out.ctypes.data
    job.low = _wrapped(stream.low + origin)
    job.shift = stream.shift
    job.escape = stream.escape
    job.escape_low = _wrapped(stream.escape_low + origin)
    job.escape_shift = stream.escape_shift
    job.escape_base = stream.escape_base
    job.kind = kind
    return _Prepared(stream, job, out, (*arrays, scales))


def exponent_arrays(
    layout: Layout, contexts: Contexts
) -> tuple[np.ndarray, np.ndarray]:
    """The exponents of channels, padded to whole lanes, and of positions."""
    channels = _padded(contexts.scale.of_channels(layout), np.int32)
    positions = contexts.scale.of_positions(layout).astype(np.int32)
    return channels, positions


def make_job(
    layout: Layout,
    contexts: Contexts,
    block_rows: int,
    arrays: tuple[np.ndarray, np.ndarray],
) -> Job:
    """What decoding and encoding have in common.

    Args:
        layout: `Layout`.
        contexts: `Contexts`.
        block_rows: Integer.
        arrays: The `exponent_arrays`, which must outlive the job.
    """
    classes = contexts.scale
    grids = 2 if contexts.states else 1
    near = contexts.neighbour
    job = Job(
        channel_exponents=arrays[0].ctypes.data,
        position_exponents=arrays[1].ctypes.data,
        channels=layout.channels,
        positions=layout.positions,
        count=layout.count,
        rows=layout.rows,
        block_rows=block_rows,
        near_distance=near.distance if near else 0,
        lanes=layout.lanes,
        highest=(classes.classes << classes.merge) - 1,
        merge=classes.merge,
        class_stride=(contexts.tables // classes.classes) << PRECISION,
        near_stride=grids << PRECISION,
        near_threshold=near.threshold if near else 0,
        machine=bool(contexts.states),
        flat=layout.view == "flat",
        escape=NO_ESCAPE,
    )
    if contexts.states:
        step = trellis.next_states(contexts.states)
        job.machine_grid, job.machine_parity = int(step[1, 0]), int(step[0, 1])
    return job


def _padded(values: np.ndarray, dtype: type) -> np.ndarray:
    out: np.ndarray = np.zeros(-(-values.size // _LANES) * _LANES, dtype)
    out[: values.size] = values
    return out


def _wrapped(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _run(
    prepared: Sequence[_Prepared], isa: str | None, only: int | None = None
) -> list[np.ndarray | None]:
    level = ISAS.index(isa or best_isa())
    tasks = [
        (index, first, last)
        for index, tensor in enumerate(prepared)
        for first, last in _ranges(tensor.stream, only)
    ]

    def work(bundle: list[_Task]) -> list[bool]:
        return [
            _decode_range(prepared[index], first, last, level)
            for index, first, last in bundle
        ]

    fine = [True] * len(prepared)
    bundles = _bundles(prepared, tasks)
    for bundle, goods in zip(
        bundles, threads.map_threads(work, bundles), strict=True
    ):
        for task, good in zip(bundle, goods, strict=True):
            fine[task[0]] &= good
    return [
        tensor.out if good else None
        for tensor, good in zip(prepared, fine, strict=True)
    ]


def _bundles(
    prepared: Sequence[_Prepared], tasks: Sequence[_Task]
) -> list[list[_Task]]:
    """Tasks in bundles that are worth a thread's while."""
    bundles: list[list[_Task]] = [[]]
    elements = 0
    for task in tasks:
        if elements >= TASK_ELEMENTS:
            bundles.append([])
            elements = 0
        bundles[-1].append(task)
        stream = prepared[task[0]].stream
        size = (task[2] - task[1]) * stream.block_rows * stream.layout.lanes
        elements += min(size, stream.layout.count)
    return bundles


def _ranges(stream: LaneStream, only: int | None) -> list[tuple[int, int]]:
    if only is not None:
        return [(only, only + 1)]
    blocks = len(stream.states)
    each = TASK_ELEMENTS // (stream.block_rows * stream.layout.lanes)
    step = max(each, 1)
    return [(b, min(b + step, blocks)) for b in range(0, blocks, step)]


def _decode_range(tensor: _Prepared, first: int, last: int, level: int) -> bool:
    kernel = kernel_function("ks_class_rans_decode", ctypes.c_int, "pqqpppppi")
    stream = tensor.stream
    rows = 2 * stream.rows_of(0) if stream.contexts.neighbour else 0
    near = np.empty(rows * _LANES, np.uint8)
    code = kernel(
        ctypes.byref(tensor.job),
        first,
        last,
        stream.states.ctypes.data,
        stream.machines.ctypes.data,
        stream.words.ctypes.data,
        stream.ends.ctypes.data,
        near.ctypes.data,
        level,
    )
    return int(code) == 0
