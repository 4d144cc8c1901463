"""Rounding for the outputs against plain rounding, on a trained ResNet-8.

Kernels of the CIFAR-10 network of MLPerf Tiny (78,666 parameters) are
quantized by themselves, from statistics of the float network's inputs. The
output error is that on other images than the calibration's: squared error
over squared outputs, geometric mean over the kernels. Accuracy is that of the
network with all of these kernels and nothing else done. CPU times of both
ways are taken in turns.

    OMP_NUM_THREADS=1 python benchmarks/reconstruction.py FOLDER

FOLDER holds `models/pretrainedResnet.h5` and `loaders.py`, which reads the
images. It defaults to the environment variable KERAS_SQUEEZE_DATA, or to
`../shared/data` beside the repository.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_squeeze import quantizers
from keras_squeeze.calibration.gram_matrices import gram_matrices
from keras_squeeze.quantizers.reconstruction import quantize_reconstructing
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy

BITS = (8, 4, 3, 2)
QUANTIZERS = ("mse", "absmax")
CALIBRATION = 512
#: What is left out of the whole, row by row.
VARIANTS: dict[str, dict[str, Any]] = {
    "feedback, natural order": {
        "order": "natural",
        "scale_factors": (1.0,),
        "passes": 0,
    },
    "feedback, by energy": {"scale_factors": (1.0,), "passes": 0},
    "+ scales and codes in turns": {"scale_factors": (1.0,)},
    "+ eight factors of the scale": {},
}


def main() -> None:
    folder = _folder()
    sys.path.insert(0, str(folder))
    import loaders

    path = folder / "models" / "pretrainedResnet.h5"
    model = keras.models.load_model(path, compile=False)
    (seen, _), (images, labels) = loaders.load_cifar10(folder=str(folder))
    shuffled = np.random.default_rng(0).permutation(len(seen))[:CALIBRATION]
    started = time.process_time()
    grams = gram_matrices(model, seen[shuffled].astype("float32"))
    print(f"Gram matrices: {time.process_time() - started:.1f} CPU s")
    others = gram_matrices(model, images[:CALIBRATION].astype("float32"))
    kernels = find_kernels(model)
    originals = {k.path: to_numpy(k.variable) for k in kernels}

    def accuracy(tensors: Mapping[str, Any]) -> float:
        for kernel in kernels:
            value = originals[kernel.path]
            if kernel.path in tensors:
                value = tensors[kernel.path].dequantize()
            kernel.variable.assign(value)
        found = model.predict(images.astype("float32"), 256, verbose=0)
        return float(np.mean(found.argmax(1) == labels))

    def error(tensors: Mapping[str, Any]) -> float:
        found = [
            _error(originals[path], tensors[path], others[path])
            for path in tensors
        ]
        return float(np.exp(np.mean(np.log(found))))

    print(f"float accuracy {accuracy({}):.4f}\n")
    row = "{:6} {:>4} {:28} {:>10} {:>9} {:>7}"
    print(row.format("grid", "bits", "codes", "error", "accuracy", "CPU s"))
    for name in QUANTIZERS:
        for bits in BITS:
            quantizer = quantizers.get(name, bits=bits)
            for label, way in _ways(quantizer).items():
                tensors, seconds = _timed(way, originals, grams)
                figures = f"{error(tensors):.3e}", f"{accuracy(tensors):.4f}"
                print(row.format(name, bits, label, *figures, f"{seconds:.2f}"))


def _ways(quantizer: Any) -> dict[str, Callable[[Any, Any], Any]]:
    ways: dict[str, Callable[[Any, Any], Any]] = {
        "rounded": lambda kernel, gram: quantizer.encode(kernel, -1)
    }
    for label, arguments in VARIANTS.items():
        ways[label] = lambda kernel, gram, given=arguments: (
            quantize_reconstructing(kernel, gram, quantizer, **given)
        )
    return ways


def _timed(
    way: Callable[[Any, Any], Any],
    originals: Mapping[str, Any],
    grams: Mapping[str, Any],
) -> tuple[dict[str, Any], float]:
    started = time.process_time()
    tensors = {path: way(originals[path], grams[path]) for path in grams}
    return tensors, time.process_time() - started


def _error(original: Any, tensor: Any, gram: Any) -> float:
    matrix = original.reshape(len(gram), -1).astype("float64")
    lost = tensor.dequantize().reshape(matrix.shape) - matrix
    return float(
        np.sum(lost * (gram @ lost)) / np.sum(matrix * (gram @ matrix))
    )


def _folder() -> pathlib.Path:
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("KERAS_SQUEEZE_DATA", beside)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=default)
    return parser.parse_args().folder


if __name__ == "__main__":
    main()
