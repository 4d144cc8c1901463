"""Writes the golden files of format 1; run once, when the format was new.

    python -m tests.golden.make_format_1

The files are a promise: later versions must read them, so they are never
written again. A change of the format gets a folder of its own.
"""

import hashlib
import json
from pathlib import Path

import keras
import numpy as np

import keras_squeeze as ks
from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput

FOLDER = Path(__file__).parent / "format-1"


def digests(path):
    return {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for name, array in artifact.read(path).decode_all().items()
    }


def network():
    keras.utils.set_random_seed(7)
    layers = keras.layers
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Reshape((16, 4), name="rows")(x)
    x = layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(inputs, layers.Dense(3, name="out")(x), name="golden")


def plain_tensors():
    rng = np.random.default_rng(11)
    special = np.array([0x7FC00001, 0x80000000, 1, 0xFF800000], "uint32")
    arrays = {
        "special": np.tile(special.view("float32"), 4),
        "normal": rng.normal(size=(40, 5)).astype("float32"),
        "half": rng.normal(size=50).astype("float16"),
        "sparse": np.where(rng.random((90, 90)) < 0.02, 1.5, 0).astype("f4"),
        "codes": rng.binomial(14, 0.5, (60, 50)).astype("int8"),
        "wide": rng.integers(-(2**40), 2**40, 9),
        "flags": rng.random(33) < 0.5,
        "scalar": np.array(3, "int64"),
        "empty": np.zeros((0, 3), "float32"),
    }
    return [TensorInput.from_values(name, a) for name, a in arrays.items()]


def main():
    FOLDER.mkdir(exist_ok=True)
    model = network()
    artifact.write(
        str(FOLDER / "tensors.h5"),
        plain_tensors(),
        {"class_name": "Model", "name": "tensors", "config": None},
        keras_version="3.15.1",
    )
    ks.export(model, FOLDER / "lossless.h5")
    ks.export(model, FOLDER / "coded_4_bits.h5", bits=4)
    for bits in (1, 3, 8):
        small, _ = ks.quantize(model, bits=bits)
        ks.export(small, FOLDER / f"quantized_{bits}_bits.h5")
    expected = {p.name: digests(p) for p in sorted(FOLDER.glob("*.h5"))}
    text = json.dumps(expected, indent=1, sort_keys=True)
    (FOLDER / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
