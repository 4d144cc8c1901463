"""Size against accuracy: trained for the coder, or pruned and quantized.

Two ways of as many epochs, with the same batches and learning rates:

- rate: `ks.callbacks.RatePenalty` makes the estimated size of the file a part
  of the loss; its weight is the loss that one bit a weight costs.
- prune: the large kernels are pruned by magnitude, all are quantized with 5
  bits a channel, and what is not quantized trains for the last epoch.

Bytes are whole files, accuracies those of the reloaded model.

    python benchmarks/rate_penalty.py lenet_300_100 FOLDER
    python benchmarks/rate_penalty.py lenet5 FOLDER
    python benchmarks/rate_penalty.py resnet20 FOLDER --model resnet20.keras

The two networks for Fashion-MNIST are trained from scratch; ResNet-20 goes on
from the file that `cifar10_resnet.py` writes. FOLDER holds
`fashion_mnist.npz`, or `cifar10_shared.npz` as `cifar10_pruning.py` says. It
defaults to the environment variable KERAS_SQUEEZE_DATA, or to
`../shared/data` beside the repository.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import cifar10_pruning
import fashion_mnist_lenet5
import keras
import numpy as np
from keras import layers

import keras_squeeze as ks

BITS = 5
BIAS_LEARNING_RATE = 1e-3
#: The share of the training after which pruning is over.
RAMP = 0.4
BATCH_SIZE = 128


def lenet_300_100(_: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(300, activation="relu", name="hidden_1"),
            layers.Dense(100, activation="relu", name="hidden_2"),
            layers.Dense(10, activation="softmax", name="head"),
        ],
        name="lenet_300_100",
    )


def lenet5(_: Any) -> keras.Model:
    return fashion_mnist_lenet5.build_model(0)


def resnet20(file: Any) -> keras.Model:
    if file is None or not pathlib.Path(file).exists():
        raise SystemExit(
            "Expected `--model`, the file that cifar10_resnet.py writes. "
            f"Received: {file}"
        )
    return keras.models.load_model(file, compile=False)


@dataclasses.dataclass(frozen=True)
class Network:
    """What is trained, and with which settings of the two ways."""

    build: Callable[[Any], keras.Model]
    epochs: int
    learning_rate: float
    pruned: str
    sparsities: tuple[float, ...]
    weights: tuple[float, ...]


NETWORKS = {
    "lenet_300_100": Network(
        lenet_300_100, 12, 2e-3, "hidden_", (0.8, 0.9, 0.95), (0.03, 0.1, 0.3)
    ),
    "lenet5": Network(
        lenet5, 12, 2e-3, "hidden/", (0.9, 0.94, 0.97), (0.03, 0.1, 0.3)
    ),
    "resnet20": Network(
        resnet20, 12, 1e-3, "conv2d", (0.5, 0.7, 0.8), (0.03, 0.1, 0.3)
    ),
}


class Experiment:
    """A network with its data; every training begins at the same weights."""

    def __init__(self, name: str, folder: Any, epochs: Any, file: Any) -> None:
        self.name, self.network, self.file = name, NETWORKS[name], file
        self.epochs = epochs or self.network.epochs
        source = cifar10_pruning if name == "resnet20" else fashion_mnist_lenet5
        self.data = source.load_data(pathlib.Path(folder))
        steps = len(self.data["y_train"]) / self.batch_size
        self.steps_per_epoch = int(np.ceil(steps))

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        is_resnet = self.name == "resnet20"
        return cifar10_pruning.BATCH_SIZE if is_resnet else BATCH_SIZE

    def build(self) -> keras.Model:
        """The network before the training."""
        keras.utils.set_random_seed(0)
        return self.network.build(self.file)

    def fit(self, model, rate: Any, epochs: int, callbacks=()) -> float:
        """Trains; returns the seconds of CPU time."""
        model.compile(
            keras.optimizers.Adam(rate), "sparse_categorical_crossentropy"
        )
        x, y = self.data["x_train"], self.data["y_train"]
        if self.name == "resnet20":
            inputs = {"x": cifar10_pruning.Batches(x, y, seed=0)}
        else:
            inputs = {"x": x, "y": y, "batch_size": BATCH_SIZE}
        begin = time.process_time()
        model.fit(**inputs, epochs=epochs, verbose=0, callbacks=list(callbacks))
        return time.process_time() - begin

    def decay(self, epochs: int) -> Any:
        """A learning rate that falls to zero."""
        return keras.optimizers.schedules.CosineDecay(
            self.network.learning_rate, epochs * self.steps_per_epoch
        )

    def accuracy(self, model) -> float:
        """The share of the test images that are recognized."""
        scores = model.predict(self.data["x_test"], batch_size=500, verbose=0)
        return float(np.mean(np.argmax(scores, -1) == self.data["y_test"]))

    def exported(self, model) -> tuple[int, float]:
        """The bytes of the file, and the accuracy of what it holds."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.h5"
            ks.export(model, path, profile="small")
            return path.stat().st_size, self.accuracy(ks.load_model(path))

    def plain(self) -> None:
        """The network as it is, in float32."""
        model = self.build()
        seconds = self.fit(model, self.decay(self.epochs), self.epochs)
        size = 4 * model.count_params()
        self.show("plain, float32", size, self.accuracy(model), seconds)

    def prune(self, sparsity: float) -> None:
        """Prunes, then quantizes."""
        model, epochs = self.build(), self.epochs - 1
        end = round(RAMP * epochs * self.steps_per_epoch)
        schedule = ks.schedules.PolynomialDecay(0.0, sparsity, 0, end)
        pruning = ks.callbacks.MagnitudePruning(
            schedule, filters=self.network.pruned
        )
        seconds = self.fit(model, self.decay(epochs), epochs, [pruning])
        model, _ = ks.quantize(model, bits=BITS, method="round")
        self.fit(model, BIAS_LEARNING_RATE, 1)
        self.show(f"prune {sparsity}", *self.exported(model), seconds)

    def rate(self, **arguments: Any) -> None:
        """Trains for the coder."""
        model = self.build()
        penalty = ks.callbacks.RatePenalty(**arguments)
        rate = self.decay(self.epochs)
        seconds = self.fit(model, rate, self.epochs, [penalty])
        setting = " ".join(f"{k} {v}" for k, v in arguments.items())
        figures = model.history.history
        self.show(
            f"rate {setting}",
            *self.exported(model),
            seconds,
            figures["rate_bytes"][-1],
        )

    def show(self, way, size, accuracy, seconds, estimate=None) -> None:
        """Prints a row."""
        estimated = "" if estimate is None else f"{round(estimate):,}"
        print(
            f"| {way} | {size:,} | {estimated} | {accuracy:.2%} | "
            f"{seconds:.0f} |",
            flush=True,
        )


def main() -> None:
    """Prints a table, one row a training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument(
        "folder", nargs="?", default=cifar10_pruning.DEFAULT_FOLDER
    )
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--weights", type=float, nargs="*")
    parser.add_argument("--sparsities", type=float, nargs="*")
    parser.add_argument("--target-bytes", type=int, nargs="*", default=[])
    parser.add_argument("--skip-plain", action="store_true")
    args = parser.parse_args()
    run = Experiment(args.network, args.folder, args.epochs, args.model)
    weights, sparsities = args.weights, args.sparsities
    print(
        "| way | bytes | estimated | accuracy | CPU s |\n|---|---|---|---|---|"
    )
    if sparsities != [] and not args.skip_plain:
        run.plain()
    for s in run.network.sparsities if sparsities is None else sparsities:
        run.prune(s)
    for weight in run.network.weights if weights is None else weights:
        run.rate(weight=weight)
    for target in args.target_bytes:
        run.rate(target_bytes=target)


if __name__ == "__main__":
    main()
