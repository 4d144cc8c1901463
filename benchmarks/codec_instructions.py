"""Instructions a weight inside the compiled kernels, counted by callgrind.

They do not depend on what else the machine does. Callgrind has no AVX-512, so
that is not counted here; what NumPy and Python do around the kernels is not
counted either.

    python benchmarks/codec_instructions.py CODEC DIRECTION arrays.npz CODED

is what runs under valgrind: it encodes the arrays, or decodes what `CODED`
(an .npz of bytes) holds.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
from codec_sets import quantize

from keras_squeeze import codecs

_CODECS = ("class_rans", "context_mixing")
_CASES = ("i8c", "i4c", "p80k5")
_KERNEL_LINE = re.compile(r"^ *([\d,]+) .*\[.*_kernels[^\]]*\]", re.MULTILINE)


def print_table(
    models: dict[str, dict[str, np.ndarray]], cases: Sequence[str] | None
) -> None:
    """The table of instructions a weight, of the first model."""
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: instructions are not counted")
        return
    model, kernels = next(iter(models.items()))
    print("| set | case | codec | encode | decode |")
    print("|---|---|---|---|---|")
    for case in cases or _CASES:
        arrays = {n: quantize(n, w, case) for n, w in kernels.items()}
        for codec in _CODECS:
            encode, decode = instructions(codec, arrays)
            print(
                f"| {model} | {case} | {codec} | {encode:.0f} | {decode:.0f} |"
            )


def instructions(
    codec: str, arrays: dict[str, np.ndarray]
) -> tuple[float, float]:
    """Instructions a weight of encoding and of decoding."""
    coder = codecs.get(codec)
    coded = {
        name: np.frombuffer(coder.encode(array), np.uint8)
        for name, array in arrays.items()
    }
    weights = sum(array.size for array in arrays.values())
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(pathlib.Path(folder, n)) for n in ("a.npz", "c.npz")]
        np.savez(paths[0], **arrays)
        np.savez(paths[1], **coded)
        counts = [
            _counted([codec, direction, *paths], folder)
            for direction in ("encode", "decode")
        ]
    return counts[0] / weights, counts[1] / weights


def _counted(arguments: list[str], folder: str) -> int:
    """Instructions in functions of the compiled library, by callgrind."""
    profile = str(pathlib.Path(folder, "profile"))
    valgrind = ["valgrind", "--tool=callgrind"]
    valgrind.append(f"--callgrind-out-file={profile}")
    command = [*valgrind, sys.executable, __file__, *arguments]
    # Other threads would only wait, which counts too.
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, capture_output=True, check=True, env=one_thread)
    table = subprocess.run(
        ["callgrind_annotate", "--threshold=100", profile],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    counts = _KERNEL_LINE.findall(table)
    return sum(int(count.replace(",", "")) for count in counts)


def run(codec: str, direction: str, arrays: str, coded: str) -> None:
    """What is counted."""
    coder = codecs.get(codec)
    with np.load(arrays) as plain, np.load(coded) as data:
        for name in plain.files:
            if direction == "encode":
                coder.encode(plain[name])
            else:
                array = plain[name]
                coder.decode(data[name].tobytes(), array.shape, array.dtype)


if __name__ == "__main__":
    run(*sys.argv[1:])
