"""Damages what every codec writes, many times, and decodes it.

    python -m tests.fuzz_codecs [--rounds N] [--seed N] [CODEC ...]

Nothing but a `SqueezeError` or an array of the declared shape may come back.
`tests.native_sanitizer` runs this with the kernels under sanitizers.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from keras_squeeze import codecs, native
from keras_squeeze.codecs import Codec, Raw
from keras_squeeze.codecs.trials import missing_library
from keras_squeeze.errors import SqueezeError
from keras_squeeze.testing import check_codec, sample_arrays

# Compressors of others: their damage is found in their own tests.
FOREIGN = {"brotli", "bzip2", "deflate", "lz4", "lzo", "snappy", "xz", "zstd"}


def code_arrays(random):
    """Codes as kernels have them: wide, narrow, sparse, of four ranks."""
    for shape in ((700,), (90, 40), (3, 3, 16, 40), (5, 1, 1, 7)):
        for spread, dtype in ((0.4, "int8"), (2, "int8"), (300, "int16")):
            yield random.normal(0, spread, shape).round().astype(dtype)
    weights = random.normal(0, 0.1, (60, 50)).astype("float32")
    yield from (weights, weights.cumsum(axis=1), weights.astype("float16"))


def damaged(random, data):
    """A copy with some bytes replaced, cut off, repeated or swapped."""
    out = bytearray(data)
    # Headers are short and steer the most.
    reach = len(out) if random.random() < 0.5 else min(len(out), 40)
    for _ in range(int(random.integers(1, 4))):
        if not out:
            return bytes(out)
        start, stop = sorted(random.integers(0, reach + 1, 2).tolist())
        kind = int(random.integers(5))
        if kind == 0:
            out[start:stop] = random.bytes(stop - start)
        elif kind == 1:
            del out[start:stop]
        elif kind == 2:
            out[start:start] = out[start:stop]
        elif kind == 3:
            del out[int(random.integers(len(out) + 1)) :]
        else:
            place = min(start, len(out) - 1)
            out[place] = int(random.choice([0, 1, 127, 128, 255]))
        reach = min(reach, len(out))
    return bytes(out)


def fuzz(codec: Codec, rounds: int, seed: int) -> int:
    """Decodes damaged bytes; returns how often."""
    random = np.random.default_rng(seed)
    arrays = [a for a in code_arrays(random) if codec.supports(a)]
    for array in arrays:
        data = codec.encode(array)
        back = codec.decode(data, array.shape, array.dtype)
        if back.tobytes() != array.tobytes():
            raise AssertionError(f"{codec!r} changed {array.dtype} values")
        for _ in range(rounds):
            shape = array.shape if random.random() < 0.8 else (array.size, 2)
            try:
                out = codec.decode(damaged(random, data), shape, array.dtype)
            except SqueezeError:
                continue
            if out.shape != shape:
                raise AssertionError(f"{codec!r} gave {out.shape}")
    return rounds * len(arrays)


def main() -> None:
    """Fuzzes the codecs that were named, or all of ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codecs", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"compiled kernels: {native.available()}")
    names = args.codecs or sorted(set(codecs.names()) - FOREIGN)
    for name in names:
        codec = codecs.get(name)
        if isinstance(codec, Raw) or missing_library(codec):
            continue
        start = time.perf_counter()
        check_codec(codec, sample_arrays()[::7])
        count = fuzz(codec, args.rounds, args.seed)
        took = time.perf_counter() - start
        print(f"{name}: {count} damaged streams, {took:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
