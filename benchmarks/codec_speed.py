"""Speed of the coders: CPU seconds of the process, the least of some runs.

Rates are millions of weights a second. "Per core" pins the process to one
core; scaling is how much less wall time two cores take.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from codec_peers import run_peer
from codec_sets import quantize

from keras_squeeze import codecs
from keras_squeeze.codecs.threads import map_threads

T = TypeVar("T")
CASES = ("i8c", "i4c", "p80k5")
_ENOUGH_SECONDS = 0.5
_ENOUGH_RUNS = 7


def least_seconds(
    work: Callable[[], T], clock: Callable[[], float] = time.process_time
) -> tuple[float, T]:
    """The least time of several runs, and the result of the last."""
    times: list[float] = []
    while sum(times) < _ENOUGH_SECONDS and len(times) < _ENOUGH_RUNS:
        start = clock()
        result = work()
        times.append(clock() - start)
    return min(times), result


class OneCore:
    """Pins the process to its first core for a while."""

    def __enter__(self) -> None:
        self.cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self.cores)})

    def __exit__(self, *error: object) -> None:
        os.sched_setaffinity(0, self.cores)


def decode_all(
    codec: codecs.Codec, coded: Sequence[bytes], arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    items: list[Any] = [
        (data, a.shape, a.dtype) for data, a in zip(coded, arrays, strict=True)
    ]
    return codec.decode_many(items)


def print_set_speeds(
    models: dict[str, dict[str, np.ndarray]],
    cases: Sequence[str],
    peer_python: str | None,
) -> None:
    """Whole sets on one core, NNCodec in the same minute."""
    names = ("class_rans", "context_mixing")
    print(
        "| set | case | " + " | ".join(f"{n} enc | dec" for n in names), end=""
    )
    print(" | NNCodec enc | dec | context_mixing dec / NNCodec dec |")
    print("|---|---|" + "---|" * (2 * len(names) + 3))
    for model, kernels in models.items():
        for case in cases:
            named = {n: quantize(n, w, case) for n, w in kernels.items()}
            rates = set_speeds(named, names)
            if peer_python:
                rates += peer_speeds(named, peer_python)
                rates.append(rates[3] / rates[-1])
            cells = " | ".join(f"{rate:.2f}" for rate in rates)
            print(f"| {model} | {case} | {cells} |")


def set_speeds(
    named: dict[str, np.ndarray], names: Sequence[str]
) -> list[float]:
    """Encoding and decoding rates of each codec."""
    arrays = list(named.values())
    millions = sum(array.size for array in arrays) / 1e6
    rates = []
    with OneCore():
        for name in names:
            codec = codecs.get(name)
            seconds, coded = least_seconds(
                lambda codec=codec: [codec.encode(a) for a in arrays]
            )
            rates.append(millions / seconds)
            seconds, back = least_seconds(
                lambda codec=codec, coded=coded: decode_all(
                    codec, coded, arrays
                )
            )
            rates.append(millions / seconds)
            for array, again in zip(arrays, back, strict=True):
                np.testing.assert_array_equal(array, again)
    return rates


def peer_speeds(named: dict[str, np.ndarray], peer_python: str) -> list[float]:
    """NNCodec's encoding and decoding rates."""
    millions = sum(array.size for array in named.values()) / 1e6
    found = run_peer(peer_python, "speed", named)
    return [
        millions / found["encode_cpu_seconds"],
        millions / found["decode_cpu_seconds"],
    ]


def print_scaling(models: dict[str, dict[str, np.ndarray]]) -> None:
    """Wall time of `context_mixing` on one core over that on two."""
    print("| set | case | encode | decode |")
    print("|---|---|---|---|")
    codec = codecs.get("context_mixing")
    for model, kernels in models.items():
        arrays = [quantize(n, w, "i4c") for n, w in kernels.items()]
        walls = [_walls(codec, arrays)]
        with OneCore():
            walls.insert(0, _walls(codec, arrays))
        ratios = [one / two for one, two in zip(*walls, strict=True)]
        print(f"| {model} | i4c | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def _walls(
    codec: codecs.Codec, arrays: Sequence[np.ndarray]
) -> tuple[float, float]:
    def encode() -> list[bytes]:
        return map_threads(codec.encode, arrays)

    encoding, coded = least_seconds(encode, time.perf_counter)
    decoding, _ = least_seconds(
        lambda: decode_all(codec, coded, arrays), time.perf_counter
    )
    return encoding, decoding
