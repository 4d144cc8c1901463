"""Writes the golden files of the encodings `affine` and `codebook`; run once.

    python -m tests.golden.make_format_1_encodings

They joined format 1 later. As all golden files, these are never written again.
"""

import json
from pathlib import Path

import numpy as np

import keras_squeeze as ks
from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.encodings import FIXED_CODEBOOKS
from keras_squeeze.quantizers import QuantizedTensor, fixed_codebook
from tests.golden.make_format_1 import digests, network

FOLDER = Path(__file__).parent / "format-1-encodings"
FIXED_BITS = {"nf4": 4, "power_of_two": 5}


def scales(*shape):
    steps = 128 + np.arange(np.prod(shape)).reshape(shape) * 7 % 128
    return (steps / 4096).astype("float32")


def codes(bits, *shape):
    """Every code in turn, in an order without pattern."""
    mixed = np.arange(np.prod(shape)) * 2654435761 % 99991
    found = mixed % 2**bits - 2 ** (bits - 1)
    if bits == 1:
        found = 2 * found + 1
    return found.reshape(shape).astype("int8")


def affine(bits, axis, group_size, shape):
    given = codes(bits, *shape)
    scale = scales(*layout(shape, axis, group_size))
    zero = np.arange(scale.size).reshape(scale.shape) * 5 % 2**bits
    return QuantizedTensor(
        given,
        scale,
        bits,
        axis,
        group_size,
        zero_point=(zero - 2 ** (bits - 1)).astype("int16"),
    )


def learned(bits, rows, axis, group_size, shape):
    levels = np.sort(np.cbrt(np.arange(rows * 2**bits) * 37 % 101 - 50))
    levels = levels.reshape(rows, 2**bits).astype("float32")
    scale = scales(*layout(shape, axis, group_size))
    given = codes(bits, *shape)
    return QuantizedTensor(
        given, scale, bits, axis, group_size, codebook=levels
    )


def fixed(name):
    bits = FIXED_BITS.get(name, 8)
    given = codes(bits, 16, 20)
    codebook = fixed_codebook(name, bits)[None]
    return QuantizedTensor(given, scales(20, 1), bits, (1,), codebook=codebook)


def layout(shape, axis, group_size):
    channels = int(np.prod([shape[i] for i in axis]))
    rest = int(np.prod(shape)) // channels
    return channels, -(-rest // group_size) if group_size else 1


def quantized_tensors():
    return {
        "affine_1": affine(1, (), None, (30,)),
        "affine_4": affine(4, (3,), None, (3, 3, 5, 8)),
        "affine_8_groups": affine(8, (0,), 6, (4, 20)),
        "codebook_1": learned(1, 1, (), None, (50,)),
        "codebook_3_rows": learned(3, 7, (1,), None, (20, 7)),
        "codebook_4_groups": learned(4, 1, (1,), 8, (20, 7)),
        "codebook_8": learned(8, 1, (), None, (40, 20)),
        **{name: fixed(name) for name in FIXED_CODEBOOKS},
    }


def main():
    FOLDER.mkdir()
    artifact.write(
        str(FOLDER / "tensors.h5"),
        [
            TensorInput.from_quantized(name, dtype, tensor)
            for name, tensor in quantized_tensors().items()
            for dtype in ["float16" if name == "nf4" else "float32"]
        ],
        {"class_name": "Model", "name": "tensors", "config": None},
        keras_version="3.15.1",
    )
    model = network()
    ks.export(model, FOLDER / "affine_4_bits.h5", quantizer="affine", bits=4)
    ks.export(model, FOLDER / "kmeans_3_bits.h5", quantizer="kmeans", bits=3)
    ks.export(model, FOLDER / "nf4_4_bits.h5", quantizer="nf4", bits=4)
    expected = {p.name: digests(p) for p in sorted(FOLDER.glob("*.h5"))}
    text = json.dumps(expected, indent=1, sort_keys=True)
    (FOLDER / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
