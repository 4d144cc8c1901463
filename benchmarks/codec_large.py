"""Speed of `class_rans` on blocks of a model of 20 million weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from codec_speed import OneCore, decode_all, least_seconds

from keras_squeeze.codecs import class_rans_decoding, class_rans_native
from keras_squeeze.codecs.class_rans import ClassRans, ParsedStream

_SHAPE, _COUNT = (1024, 2048), 10
_LARGEST_CODE = {4: 7, 8: 127}


def large_model(bits: int) -> list[np.ndarray]:
    """Normally distributed kernels, rounded to so many bits a channel."""
    rng = np.random.default_rng(0)
    arrays = []
    for _ in range(_COUNT):
        weights = rng.normal(size=_SHAPE).astype(np.float32)
        scale = np.abs(weights).max(axis=0) / _LARGEST_CODE[bits]
        arrays.append(np.rint(weights / scale).astype(np.int8))
    return arrays


def print_large_speeds() -> None:
    """Each path on one core, then both cores against one."""
    print("| bits | path | M weights/s | to float32 | into warm memory |")
    print("|---|---|---|---|---|")
    for bits in (4, 8):
        arrays = large_model(bits)
        millions = sum(array.size for array in arrays) / 1e6
        with OneCore():
            encode, coded = least_seconds(
                lambda arrays=arrays: [ClassRans().encode(a) for a in arrays]
            )
            print(f"| {bits} | encode | {millions / encode:.0f} | | |")
            for path, *works in _paths(coded, arrays):
                cells = [_rate(millions, work) for work in works]
                print(f"| {bits} | {path} | {' | '.join(cells)} |")
        scaling = _scaling(coded, arrays)
        print(f"| {bits} | two cores / one | {scaling:.2f} | | |")


def _rate(millions: float, work: Callable[[], object] | None) -> str:
    if work is None:
        return ""
    return f"{millions / least_seconds(work)[0]:.0f}"


_Work = Callable[[], object] | None


def _paths(
    coded: Sequence[bytes], arrays: Sequence[np.ndarray]
) -> list[tuple[str, _Work, _Work, _Work]]:
    parsed = [
        ClassRans().parse(data, a.shape, a.dtype)
        for data, a in zip(coded, arrays, strict=True)
    ]
    streams: list[Any] = [p.stream for p in parsed]

    def reference() -> object:
        return class_rans_decoding.decode_blocks(streams)

    paths: list[tuple[str, _Work, _Work, _Work]] = [
        ("NumPy", reference, None, None)
    ]
    if not class_rans_native.available():
        return paths
    fastest = class_rans_native.ISAS.index(class_rans_native.best_isa())
    for isa in class_rans_native.ISAS[: fastest + 1]:
        paths.append((isa, *_native_path(parsed, isa)))
    return paths


def _native_path(
    parsed: Sequence[ParsedStream], isa: str
) -> tuple[_Work, _Work, _Work]:
    """To integers, to fresh float32, and to float32 in the same memory."""
    streams: list[Any] = [p.stream for p in parsed]
    dtypes, origins = [p.dtype for p in parsed], [p.origin for p in parsed]
    scale = np.full(_SHAPE[1], 0.01, np.float32)
    line = 16
    room = np.zeros(_SHAPE[0] * _SHAPE[1] + line, np.float32)
    first = -room.ctypes.data // room.itemsize % line
    warm = room[first : first + _SHAPE[0] * _SHAPE[1]]

    def integers() -> object:
        return class_rans_native.decode(streams, dtypes, origins, isa)

    def floats(out: np.ndarray | None = None) -> object:
        return [
            class_rans_native.decode_float(stream, origin, scale, isa, out)
            for stream, origin in zip(streams, origins, strict=True)
        ]

    return integers, floats, lambda: floats(warm)


def _scaling(coded: Sequence[bytes], arrays: Sequence[np.ndarray]) -> float:
    def work() -> object:
        return decode_all(ClassRans(), coded, arrays)

    with OneCore():
        one, _ = least_seconds(work, time.perf_counter)
    two, _ = least_seconds(work, time.perf_counter)
    return one / two
