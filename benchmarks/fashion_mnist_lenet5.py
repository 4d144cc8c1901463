"""LeNet-5 on Fashion-MNIST: pruned while it trains, 5 bits, one file.

The network is the Caffe variant of LeNet-5 (431,080 parameters, 1,724,320 B
as float32). A plain training is compared on the 10,000 test images with one
of equal length that prunes, and after its last epoch but one quantizes: in
the last epoch the biases adapt to the quantized kernels. The accuracy is
measured from the reloaded file.

    python benchmarks/fashion_mnist_lenet5.py FOLDER

FOLDER holds `fashion_mnist.npz` with `x_train`, `y_train`, `x_test`, `y_test`
as `uint8`. It defaults to the environment variable KERAS_SQUEEZE_DATA, or to
`../shared/data` beside the repository.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import tempfile
import time

import keras
import numpy as np
from keras import layers

import keras_squeeze as ks

PARAMETERS = 431_080
BITS = 5
BATCH_SIZE = 128
LEARNING_RATE = 2e-3
BIAS_LEARNING_RATE = 1e-3
#: Nine weights in ten are in this kernel; the others are quantized only.
SPARSITIES = {"hidden/": 0.94}
#: Shares of the training between which the sparsity grows.
RAMP = (0.0, 0.4)
TARGET_RATIO = 30
TARGET_DROP = 0.005

_ROOT = pathlib.Path(__file__).resolve().parent.parent
DEFAULT_FOLDER = os.environ.get(
    "KERAS_SQUEEZE_DATA", _ROOT.parent / "shared" / "data"
)


def load_data(folder: pathlib.Path):
    """The images as floats in [0, 1], and the labels."""
    path = folder / "fashion_mnist.npz"
    if not path.exists():
        raise SystemExit(f"Expected the data set. Received: no file {path}")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name in ("x_train", "x_test"):
        arrays[name] = (arrays[name] / np.float32(255))[..., np.newaxis]
    return arrays


def build_model(seed: int):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(20, 5, activation="relu", name="conv_1"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, activation="relu", name="conv_2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="head"),
        ],
        name="lenet5",
    )
    if model.count_params() != PARAMETERS:
        raise SystemExit(f"{model.count_params()} parameters")
    return model


def train(seed: int, data, epochs: int, prune: bool):
    """Trains one model; the same batches and rates, pruned or not."""
    model = build_model(seed)
    steps = epochs * math.ceil(len(data["x_train"]) / BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    begin, end = (round(share * steps) for share in RAMP)
    callbacks = [
        ks.callbacks.MagnitudePruning(
            ks.schedules.PolynomialDecay(0.0, sparsity, begin, end),
            filters=filters,
        )
        for filters, sparsity in SPARSITIES.items()
    ]
    fit(model, data, rate, epochs, callbacks if prune else [])
    return model


def fit(model, data, rate, epochs: int, callbacks) -> None:
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy"
    )
    model.fit(
        data["x_train"],
        data["y_train"],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )


def accuracy(model, data) -> float:
    scores = model.predict(data["x_test"], batch_size=512, verbose=0)
    return float(np.mean(np.argmax(scores, axis=-1) == data["y_test"]))


def export(model, data, bits: int, folder: str):
    """Quantizes and exports; returns the file's size and the reloaded model."""
    path = pathlib.Path(folder) / f"lenet5_{bits}.h5"
    quantized, _ = ks.quantize(model, bits=bits, granularity="per_channel")
    fit(quantized, data, BIAS_LEARNING_RATE, 1, [])
    ks.export(quantized, path)
    return path.stat().st_size, ks.load_model(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", nargs="?", type=pathlib.Path, default=DEFAULT_FOLDER
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[BITS])
    args = parser.parse_args()
    data = load_data(pathlib.Path(args.folder))
    print(
        f"{'seed':>4}{'bits':>6}{'plain':>9}{'pruned':>9}{'reloaded':>10}"
        f"{'bytes':>10}{'ratio':>8}{'drop':>8}{'train s':>9}"
    )
    for seed in args.seeds:
        begin = time.perf_counter()
        plain = accuracy(train(seed, data, args.epochs, prune=False), data)
        model = train(seed, data, args.epochs - 1, prune=True)
        seconds = time.perf_counter() - begin
        pruned = accuracy(model, data)
        for bits in args.bits:
            with tempfile.TemporaryDirectory() as folder:
                size, again = export(model, data, bits, folder)
                reloaded = accuracy(again, data)
            ratio, drop = 4 * PARAMETERS / size, plain - reloaded
            reached = ratio >= TARGET_RATIO and drop <= TARGET_DROP
            print(
                f"{seed:>4}{bits:>6}{plain:>9.2%}{pruned:>9.2%}"
                f"{reloaded:>10.2%}{size:>10,}{ratio:>8.1f}{drop:>8.2%}"
                f"{seconds:>9.0f}  "
                f"{'target reached' if reached else 'target MISSED'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
