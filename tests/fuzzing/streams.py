"""Fuzzes decoders with whole streams, guided by the edges kernels take.

    python -m tests.fuzzing.streams [--seconds N] [--seed N] [--keep]

Compiles the kernels with gcc's sanitizers and edge coverage, and decodes
mutations of the corpus in a child process. Mutations that take new edges are
mutated further. Nothing but `SqueezeError` may escape, and no sanitizer may
complain. `--keep` replaces the corpus by few entries that reach all edges.
Where the compiler has no sanitizers, it says so and succeeds.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.native import building
from tests.fuzz_codecs import damaged
from tests.fuzzing.entries import (
    CODECS,
    CORPUS,
    Entry,
    decode,
    read_corpus,
    unpack,
    write_corpus,
)
from tests.native_sanitizer import ROOT, environment_with, runtime

COVERAGE = pathlib.Path(__file__).parent / "coverage.c"
FLAGS = (
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    *("-fsanitize-coverage=trace-pc", "-fno-omit-frame-pointer", "-g", "-O0"),
)
MOST_BYTES = 1200
LIBRARY = "KERAS_SQUEEZE_NATIVE"


class Coverage:
    """The edges that calls of the instrumented library take."""

    def __init__(self, library):
        self.library = ctypes.CDLL(library)
        self.library.ks_coverage_new.restype = ctypes.c_int64

    def run(self, data):
        """Decodes an entry; says how much of what it did is new."""
        entry = unpack(data)
        if entry is None:
            return 0
        self.library.ks_coverage_begin()
        decode(entry)
        return self.library.ks_coverage_new()


def mutated(random, items):
    """A changed copy of an entry, perhaps with another's end."""
    data = items[int(random.integers(len(items)))]
    entry = unpack(data)
    kind = int(random.integers(10))
    if kind == 0:
        return damaged(random, data)
    if kind == 1:
        other = unpack(items[int(random.integers(len(items)))])
        cut = int(random.integers(len(entry.stream) + 1))
        return entry._replace(
            stream=entry.stream[:cut] + other.stream[cut:]
        ).pack()
    if kind == 2:
        return reshaped(random, entry).pack()
    if kind < 6:
        return entry._replace(stream=flipped(random, entry.stream)).pack()
    return entry._replace(stream=damaged(random, entry.stream)).pack()


def reshaped(random, entry):
    shape = list(entry.shape) or [1]
    axis = int(random.integers(len(shape)))
    shape[axis] = int(random.choice([0, 1, 2, 31, 32, 33, shape[axis] + 1]))
    if random.random() < 0.3:
        shape = shape[::-1]
    names = dtypes.DTYPE_NAMES
    dtype = entry.dtype
    if random.random() < 0.3:
        dtype = names[int(random.integers(len(names)))]
    return entry._replace(shape=tuple(shape), dtype=dtype)


def flipped(random, data):
    out = bytearray(data)
    for _ in range(int(random.integers(1, 5)) if out else 0):
        # Headers are short and steer the most.
        reach = len(out) if random.random() < 0.4 else min(len(out), 24)
        place = int(random.integers(reach))
        out[place] = (
            out[place] + int(random.choice([1, 2, 255, 128, 16]))
        ) % 256
    return bytes(out)


def seeds():
    """Small streams of every codec that we wrote, for an empty corpus."""
    from keras_squeeze import codecs
    from keras_squeeze.testing import sample_arrays

    random = np.random.default_rng(3)
    arrays = [array for array in sample_arrays() if array.size <= 200]
    for shape in ((300,), (24, 20), (3, 3, 4, 8), (3, 3, 3, 40), (2, 70, 35)):
        for spread, dtype in ((0.4, "int8"), (3, "int8"), (400, "int16")):
            arrays.append(random.normal(0, spread, shape).round().astype(dtype))
    for name in CODECS:
        codec = codecs.get(name)
        for array in arrays:
            if not codec.supports(array) or not array.dtype.isnative:
                continue
            data = codec.encode(array)
            if len(data) <= MOST_BYTES:
                yield Entry(name, array.dtype.name, array.shape, data).pack()


def fuzz(seconds, seed, keep):
    """What the child does; says how many entries it decoded."""
    coverage = Coverage(os.environ[LIBRARY])
    random = np.random.default_rng(seed)
    start = read_corpus() if CORPUS.exists() else list(seeds())
    for item in start:
        coverage.run(item)
    items, found, count = list(start), [], 0
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        data = mutated(random, items)
        if len(data) > MOST_BYTES:
            continue
        count += 1
        # Left behind where a sanitizer ends the process.
        pathlib.Path(os.environ["LAST_ENTRY"]).write_bytes(data)
        if coverage.run(data):
            items.append(data)
            found.append(data)
    print(f"{count} streams, {len(found)} of them took new edges", flush=True)
    if keep:
        write_corpus(smallest_cover(coverage, start + found))
    return count


def smallest_cover(coverage, items):
    """Few entries, of few elements, that reach all that these reach."""
    coverage.library.ks_coverage_forget()

    def effort(item):
        entry = unpack(item)
        return int(np.prod(entry.shape)) if entry else 0, len(item)

    return [item for item in sorted(items, key=effort) if coverage.run(item)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--child", action="store_true", help="internal")
    args = parser.parse_args()
    if args.child:
        return 0 if fuzz(args.seconds, args.seed, args.keep) else 1
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "kernels.so"
        preload = runtime()
        flags = (*FLAGS, str(COVERAGE))
        if preload is None or not building.build(library, flags):
            print("skipped: no compiler with sanitizers and edge coverage")
            return 0
        last = pathlib.Path(folder) / "last"
        environment = environment_with(library, preload)
        environment["LAST_ENTRY"] = str(last)
        command = [sys.executable, "-m", "tests.fuzzing.streams", "--child"]
        done = subprocess.run(
            [*command, *sys.argv[1:]], cwd=ROOT, env=environment, check=False
        )
        if done.returncode and last.exists():
            print(f"after {unpack(last.read_bytes())}", file=sys.stderr)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
