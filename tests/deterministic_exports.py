"""Writes artifacts of tensors made of integers alone, and prints digests.

    python -m tests.deterministic_exports [--one-core] [--few]

What it prints must be the same on every machine: nothing here asks a library
of mathematics for the tensors. `tests/test_determinism.py` compares processes
in different environments.
"""

import hashlib
import json
import os
import sys
import tempfile

import numpy as np

from keras_squeeze import artifact, native
from keras_squeeze.artifact import TensorInput
from keras_squeeze.quantizers import AbsMaxQuantizer

MODEL = {"class_name": "Model", "name": "tensors", "config": None}


def hashed(count, modulus, seed=0):
    """Numbers without pattern that need no random generator."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed ^ (mixed >> np.uint64(32))) % np.uint64(modulus)


def bell(shape, spread, seed):
    """Whole numbers that lean to zero, of another scale in each channel."""
    count = int(np.prod(shape))
    parts = [hashed(count, 2001, 8 * seed + k) for k in range(4)]
    sums = np.sum(parts, axis=0).astype("int64")
    own = 16 + hashed(shape[-1], 48, 99 + seed).astype("int64")
    return (sums - 4000).reshape(shape) * own * spread // (64 * 4000)


def code_tensors():
    """Codes of kernels: convolutions, matrices, pruned, wide and narrow."""
    shapes = ((3, 3, 16, 24), (120, 96), (5, 5, 1, 6), (3000,))
    for index, shape in enumerate(shapes):
        for bits, spread in ((2, 2), (4, 9), (8, 160), (16, 40_000)):
            seed = 10 * index + bits
            codes = bell(shape, spread, seed)
            kept = hashed(codes.size, 10, seed).reshape(shape) < 3
            dtype = "int16" if bits == 16 else "int8"
            top = np.iinfo(dtype).max
            codes = np.clip(codes, -top, top).astype(dtype)
            yield f"codes_{index}_{bits}", codes
            yield f"pruned_{index}_{bits}", codes * kept.astype(dtype)


def float_tensors():
    """Weights that are whole numbers over a power of two."""
    for index, shape in enumerate(((40, 50), (3, 3, 8, 24), (900,))):
        weights = bell(shape, 1 << 20, 70 + index) / float(1 << 22)
        for dtype in ("float32", "float16"):
            yield f"weights_{index}_{dtype}", weights.astype(dtype)
    yield "mask", hashed(3000, 7).reshape(30, 100) == 0
    yield "steps", hashed(300, 1 << 40).astype("int64")


def inputs():
    given = [*code_tensors(), *float_tensors()]
    tensors = [TensorInput.from_values(name, array) for name, array in given]
    for bits in (2, 4, 8):
        kernel = bell((96, 64), 1 << 20, bits).astype("float32") / (1 << 23)
        coded = AbsMaxQuantizer(bits).encode(kernel)
        name = f"absmax_{bits}"
        tensors.append(TensorInput.from_quantized(name, "float32", coded))
    return tensors


def digests(profile, tensors, folder):
    """SHA-256 of a file, and of what is stored of each tensor."""
    path = os.path.join(folder, f"{profile}.h5")
    artifact.write(
        path, tensors, MODEL, keras_version="3.15.1", profile=profile
    )
    opened = artifact.read(path)
    stored = {t.name: opened.stored(t) for t in opened.tensors}
    found = {n: hashlib.sha256(data).hexdigest() for n, data in stored.items()}
    with open(path, "rb") as file:
        found["file"] = hashlib.sha256(file.read()).hexdigest()
    return found


def main():
    if "--one-core" in sys.argv:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    step = 4 if "--few" in sys.argv else 1
    with tempfile.TemporaryDirectory() as folder:
        fast = digests("fast", inputs()[::step], folder)
        small = {}
        if native.available():
            small = digests("small", inputs()[:6], folder)
    print(json.dumps({"fast": fast, "small": small}))


if __name__ == "__main__":
    main()
