"""Writes the golden files of increments; run once.

    python -m tests.golden.make_increments_format_1

They joined format 1 later. `step_1.h5` holds changes to `base.h5`, `step_2.h5`
changes to `step_1.h5`. As all golden files, these are never written again.
"""

import hashlib
import json
from pathlib import Path

import ml_dtypes
import numpy as np

from keras_squeeze import artifact, quantizers
from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.access import Access

FOLDER = Path(__file__).parent / "increments-format-1"
NAMES = ("base.h5", "step_1.h5", "step_2.h5")
CODERS = {
    "absmax_4": ("absmax", 4),
    "absmax_8": ("absmax", 8),
    "affine_4": ("affine", 4),
    "nf4": ("nf4", 4),
    "kmeans_3": ("kmeans", 3),
}
DTYPES = ("float16", "float64", "complex64", "bfloat16", "float8_e4m3fn")


def opened():
    """The three files, each with those below it."""
    found = None
    for name in NAMES:
        found = artifact.read(FOLDER / name, access=Access(base=found))
        yield found


def describe(found):
    """What decoding must give, and which codecs it goes through."""
    records = {record.name: record for record in found.tensors}
    return {
        name: {
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            "codecs": [part.codec["id"] for part in records[name].parts],
        }
        for name, array in found.decode_all().items()
    }


def kernels(step):
    """A kernel that drifts, with a row, a column and a weight that do not."""
    rng = np.random.default_rng(5)
    kernel = rng.normal(size=(40, 24))
    drift = 0.02 * rng.normal(size=kernel.shape)
    drift[3], drift[:, 7], drift[9, 9] = 0, 0, 0
    for _ in range(step):
        noise = 0.005 * np.random.default_rng(step).normal(size=kernel.shape)
        kernel = kernel + drift + noise * (drift != 0)
    return kernel


def arrays(step):
    kernel = kernels(step)
    special = np.array([0x80000000, 1, 0x00800000, 0x7F7FFFFF], "uint32")
    special = np.tile(special.view("float32"), 5)
    special[step :: 5 + step] = 0
    found = {
        "drift": kernel.astype("float32"),
        "frozen": kernels(0).astype("float32"),
        "pruned": np.where(kernels(0) > 0.8, kernel, 0).astype("float32"),
        "special": special,
        "not_a_number": np.full(9, np.nan, "float32"),
        "conv": kernel.reshape(2, 5, 4, 24).astype("float32"),
        f"numbered_{step + 1}/kernel": np.ones(5, "float32"),
        "seed": np.array([step, 2**32 - 1 - step], "uint32"),
        "flags": np.arange(40) % (3 + step) == 0,
        "reshaped": np.ones((4, 5 + step), "float32"),
    }
    if step == 1:
        found["added"] = np.linspace(0, 1, 50, dtype="float32")
    for name in DTYPES:
        dtype = getattr(ml_dtypes, name, name)
        found[name] = kernel[:20].astype(dtype)
    return found


def tensors(step):
    found = [TensorInput.from_values(n, a) for n, a in arrays(step).items()]
    for name, (kind, bits) in CODERS.items():
        coder = quantizers.get(kind, bits=bits)
        coded = coder.encode(kernels(step).astype("float32"), axis=1)
        found.append(TensorInput.from_quantized(name, "float32", coded))
    codes = (np.arange(99) * (7 + (step > 0))) % 16
    packed = quantizers.pack_codes((codes - 8).astype("int8"), 4)
    found.append(TensorInput.from_packed("packed", packed, 4, 99))
    return found


def main():
    FOLDER.mkdir()
    expected, base = {}, None
    for step, name in enumerate(NAMES):
        base = artifact.write(
            FOLDER / name,
            tensors(step),
            {"class_name": "Model", "name": "tensors", "config": None},
            keras_version="3.15.1",
            base=base,
        )
    for name, found in zip(NAMES, opened(), strict=True):
        expected[name] = describe(found)
    text = json.dumps(expected, indent=1, sort_keys=True)
    (FOLDER / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
