"""Error of every quantizer: signal-to-noise ratios in decibels.

Gaussian and Laplacian weights, and, with `--model`, the kernels of a Keras
file of real ones. A quantizer with one width only stands in its column.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np

from keras_squeeze import quantizers
from keras_squeeze.errors import SqueezeError

WIDTHS = (1, 2, 3, 4, 8)
#: They choose codes by their bits too; see `codec_distortion.py`.
RATE_AWARE = ("rate_distortion", "trellis")


def drawn_kernels() -> dict[str, list[np.ndarray]]:
    """A kernel of each distribution: 128 channels of 1152 weights."""
    generator = np.random.default_rng(0)
    shape = (3, 3, 128, 128)
    return {
        "Gaussian": [generator.normal(size=shape).astype(np.float32)],
        "Laplacian": [generator.laplace(size=shape).astype(np.float32)],
    }


def model_kernels(path: pathlib.Path) -> list[np.ndarray]:
    """All kernels of a Keras model."""
    import keras

    model = keras.models.load_model(path, compile=False)
    weights = [w for w in model.weights if w.path.endswith("kernel")]
    return [np.asarray(weight) for weight in weights]


def signal_to_noise(
    kernels: list[np.ndarray], quantizer: quantizers.Quantizer
) -> float:
    """Energy over that of the error in decibels, all kernels together."""
    energy = noise = 0.0
    for kernel in kernels:
        decoded = quantizer.encode(kernel, axis=-1).dequantize()
        error = decoded.astype(np.float64) - kernel
        energy += float(np.square(kernel, dtype=np.float64).sum())
        noise += float(np.square(error).sum())
    return 10 * float(np.log10(energy / noise))


def rows_of(
    kernels: list[np.ndarray], arguments: dict[str, object]
) -> list[list[str]]:
    """A row a quantizer: its ratio at each width it has."""
    rows = []
    for name in quantizers.registry:
        if name in RATE_AWARE:
            continue
        row = [name]
        for bits in WIDTHS:
            try:
                quantizer = quantizers.get(name, bits=bits, **arguments)
            except SqueezeError:
                row.append("")
                continue
            row.append(f"{signal_to_noise(kernels, quantizer):.2f}")
        rows.append(row)
    return rows


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a table in Markdown."""
    ruler = ["---", *("--:" for _ in header[1:])]
    for row in (header, ruler, *rows):
        print(f"| {' | '.join(row)} |")


def main() -> None:
    """Prints a table a set of kernels and granularity."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, default=None)
    parser.add_argument("--group-size", type=int, default=64)
    options = parser.parse_args()
    kernels = drawn_kernels()
    if options.model is not None and options.model.exists():
        kernels[options.model.name] = model_kernels(options.model)
    settings = {
        "per channel": {},
        f"groups of {options.group_size}": {
            "granularity": "per_group",
            "group_size": options.group_size,
        },
    }
    header = ["dB", *(f"{bits}-bit" for bits in WIDTHS)]
    for label, arrays in kernels.items():
        for setting, arguments in settings.items():
            print(f"\n{label}, {setting}\n")
            print_table(header, rows_of(arrays, arguments))


if __name__ == "__main__":
    main()
