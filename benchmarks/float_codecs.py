"""Lossless floats: `float_fields` against byte-shuffled zstd and pcodec.

    python benchmarks/float_codecs.py FILE ... [--pcodec-python PYTHON]

Prints the bits per weight of whole models: as they are, cast to narrower
floats, pruned and rounded. The peers are optional: zstd needs the extra
`keras_squeeze[codecs]`, pcodec is asked for in the Python of `--pcodec-python`
(pcodec 1.1 and NumPy) and left out where there is none.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from keras_squeeze.bridges.hdf5_files import read_arrays
from keras_squeeze.codecs import BytePlanes, Codec, dtype_from_name
from keras_squeeze.codecs.float_fields import FloatFields
from keras_squeeze.codecs.zstd import Zstd

PRUNED = 0.8
LEVELS = 8, 12
LARGE = 2000
PCODEC = """
import sys, numpy
from pcodec import ChunkConfig, standalone
arrays = numpy.load(sys.argv[1])
for name in arrays.files:
    configs = [ChunkConfig(compression_level=n) for n in (8, 12)]
    print(*(len(standalone.simple_compress(arrays[name], c)) for c in configs))
"""


def variants(weights: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The weights as users have them."""
    yield "float32", weights
    with np.errstate(over="ignore"):
        half = weights.astype("float16")
        brain = weights.astype(dtype_from_name("bfloat16"))
    yield "float16", half
    yield "bfloat16", brain
    limit = np.quantile(np.abs(weights), PRUNED) if weights.ndim > 1 else 0
    yield "pruned 80 %", np.where(np.abs(weights) <= limit, 0, weights)
    yield "float16 in float32", half.astype("float32")
    yield "bfloat16 in float32", brain.astype("float32")
    step = np.float32(np.abs(weights).max() / 127 or 1)
    yield "int8 grid", (np.rint(weights / step) * step).astype("float32")


def pcodec_sizes(arrays: list[np.ndarray], python: str | None) -> np.ndarray:
    """Bytes at both levels, an array of shape (arrays, levels); NaN if none."""
    none = np.full((len(arrays), len(LEVELS)), np.nan)
    if python is None:
        return none
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "arrays.npz")
        # It has no bfloat16, whose bits it takes as integers.
        plain = [
            a.view(np.uint16) if a.dtype.name == "bfloat16" else a
            for a in arrays
        ]
        np.savez(path, *(a.reshape(-1) for a in plain))
        done = subprocess.run(
            [python, "-c", PCODEC, path],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        print(done.stderr.splitlines()[-1:], file=sys.stderr)
        return none
    lines = done.stdout.splitlines()
    return np.array([line.split() for line in lines], np.float64)


def own_sizes(
    codec: Codec, arrays: list[np.ndarray]
) -> tuple[np.ndarray, tuple[float, float]]:
    """Bytes of each array, and the seconds of CPU to encode and decode all."""
    start = time.process_time()
    coded = [codec.encode(array) for array in arrays]
    middle = time.process_time()
    items = [(d, a.shape, a.dtype) for d, a in zip(coded, arrays, strict=True)]
    decoded = codec.decode_many(items)
    end = time.process_time()
    for array, back in zip(arrays, decoded, strict=True):
        if array.tobytes() != back.tobytes():
            raise AssertionError(f"{codec!r} is not lossless")
    return np.array([len(d) for d in coded]), (middle - start, end - middle)


def compare(path: str, python: str | None) -> collections.Counter[str]:
    """Prints the table of one model; returns seconds and bytes."""
    kernels = [
        a for a in read_arrays(path).values() if a.dtype.kind == "f" and a.size
    ]
    ours: dict[str, Codec] = {"fields": FloatFields(), "planes": BytePlanes()}
    if Zstd.is_available():
        ours["zstd-19"] = Zstd(level=19, shuffle=True)
    peers = [f"pcodec-{level}" for level in LEVELS]
    print(f"\n{pathlib.Path(path).name}: bits per weight")
    print(
        f"{'':22}" + "".join(f"{n:>11}" for n in [*ours, *peers]) + "  tensors"
    )
    by_variant: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for kernel in kernels:
        for name, array in variants(kernel):
            by_variant[name].append(np.ascontiguousarray(array))
    spent: collections.Counter[str] = collections.Counter()
    for name, arrays in by_variant.items():
        weights = sum(a.size for a in arrays)
        table = {}
        for codec_name, codec in ours.items():
            table[codec_name], seconds = own_sizes(codec, arrays)
            spent[f"{codec_name} encode"] += seconds[0]
            spent[f"{codec_name} decode"] += seconds[1]
        spent["bytes"] += sum(a.nbytes for a in arrays)
        table.update(zip(peers, pcodec_sizes(arrays, python).T, strict=True))
        rest = np.array(
            [table[n] for n in table if n not in ("fields", "planes")]
        )
        large = np.array([a.size > LARGE for a in arrays])
        won = (table["fields"] < np.nanmin(rest, axis=0))[large]
        cells = (f"{8 * v.sum() / weights:11.3f}" for v in table.values())
        print(f"{name:22}{''.join(cells)}  {won.sum()} of {won.size} smallest")
    return spent


def main() -> None:
    """Compares the codecs on the weights of files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--pcodec-python", metavar="PYTHON")
    args = parser.parse_args()
    spent: collections.Counter[str] = collections.Counter()
    for path in args.files:
        spent += compare(path, args.pcodec_python)
    megabytes = spent.pop("bytes") / 1e6
    print(f"\nMB/s of CPU time on {megabytes:.0f} MB:")
    for what, seconds in spent.items():
        print(f"{what:22}{megabytes / seconds:11.1f}")


if __name__ == "__main__":
    main()
