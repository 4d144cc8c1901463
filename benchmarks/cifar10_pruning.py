"""Half the multiplications of a residual network removed, on CIFAR-10.

ResNet-8 (78,666 parameters, 12.5 million multiply-accumulates an image) is
trained on these images first. That is the dense network. From its weights two
others are made, by as many epochs with the same batches and learning rates:

- shrunk: the inner channels of its residual blocks are pruned while it
  trains, `ks.shrink` removes them, and the smaller network trains on;
- unstructured: single weights are pruned, as many as make the file as small
  as that of the shrunk network.

All three are exported with 8 bits a weight; the accuracy is measured from the
reloaded files.

    python benchmarks/cifar10_pruning.py FOLDER

FOLDER holds `models/pretrainedResnet.h5` (the network of MLPerf Tiny) and
`cifar10_shared.npz` with JPEG files in `jpg_train` and `jpg_test`, where each
begins in `off_train` and `off_test`, and the labels `y_train` and `y_test`. It
defaults to the environment variable KERAS_SQUEEZE_DATA, or to
`../shared/data` beside the repository.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

import keras_squeeze as ks

BITS = 8
BATCH_SIZE = 100
LEARNING_RATE = 1e-3
#: The first convolution of each residual block: what it computes is read by
#: the second one only, so half of these channels is half of both.
INNER = r"^conv2d_(1|3|6)/"
CHANNEL_SPARSITY = 0.54
#: Epochs after which the masks stay as they are.
RAMP_EPOCHS = 2
SHIFT = 3

_ROOT = pathlib.Path(__file__).resolve().parent.parent
DEFAULT_FOLDER = os.environ.get(
    "KERAS_SQUEEZE_DATA", _ROOT.parent / "shared" / "data"
)


def load_data(folder: pathlib.Path):
    """Images with values from 0 to 255, and labels, by the name of the part."""
    path = folder / "cifar10_shared.npz"
    if not path.exists():
        raise SystemExit(f"Expected the data set. Received: no file {path}")
    data = {}
    with np.load(path) as file:
        for part in ("train", "test"):
            stream, offsets = file[f"jpg_{part}"], file[f"off_{part}"]
            data[f"x_{part}"] = np.stack(
                [
                    decode(stream[begin:end].tobytes())
                    for begin, end in itertools.pairwise(offsets)
                ]
            )
            data[f"y_{part}"] = file[f"y_{part}"].astype("int32")
    return data


def decode(jpeg: bytes) -> np.ndarray:
    image = tf.io.decode_jpeg(jpeg, 3, dct_method="INTEGER_ACCURATE")
    return image.numpy().astype("float32")


class Batches(keras.utils.PyDataset):
    """Shuffled batches, images flipped and shifted at random."""

    def __init__(self, x, y, seed: int) -> None:
        super().__init__()
        margins = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
        self.x, self.y = np.pad(x, margins), y
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.y) // BATCH_SIZE

    def on_epoch_end(self) -> None:
        """Deals the images anew."""
        self.order = self.rng.permutation(len(self.y))

    def __getitem__(self, index: int):
        chosen = self.order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        side = self.x.shape[1] - 2 * SHIFT
        images = np.empty((len(chosen), side, side, 3), "float32")
        for row, image in enumerate(self.x[chosen]):
            top, left = self.rng.integers(0, 2 * SHIFT + 1, 2)
            part = image[top : top + side, left : left + side]
            images[row] = part[:, :: self.rng.choice((-1, 1))]
        return images, self.y[chosen]


def load_network(folder: pathlib.Path):
    path = folder / "models" / "pretrainedResnet.h5"
    if not path.exists():
        raise SystemExit(f"Expected the network. Received: no file {path}")
    return keras.models.load_model(path, compile=False)


class Training:
    """Some epochs of the same data and learning rates."""

    def __init__(self, data, epochs: int, seed: int) -> None:
        self.data, self.epochs, self.seed = data, epochs, seed
        self.steps_per_epoch = len(data["y_train"]) // BATCH_SIZE
        self.steps = epochs * self.steps_per_epoch

    def compile(self, model) -> None:
        """Gives the model an optimizer whose rate falls to 0."""
        rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, self.steps)
        optimizer = keras.optimizers.Adam(rate)
        model.compile(optimizer, "sparse_categorical_crossentropy")

    def fit(self, model, first: int, last: int, callbacks=()) -> float:
        """Trains for some of the epochs; returns the seconds of CPU time."""
        keras.utils.set_random_seed(self.seed)
        x, y = self.data["x_train"], self.data["y_train"]
        batches = Batches(x, y, seed=self.seed + first)
        begin = time.process_time()
        model.fit(
            batches,
            initial_epoch=first,
            epochs=last,
            verbose=0,
            callbacks=list(callbacks),
        )
        return time.process_time() - begin

    def pruning(self, sparsity: float, **arguments):
        """A callback whose sparsity grows in the first part of the training."""
        schedule = ks.schedules.PolynomialDecay(
            0.0, sparsity, 0, RAMP_EPOCHS, unit="epochs"
        )
        return ks.callbacks.Pruning(schedule, frequency=10, **arguments)


def train_dense(model, training: Training):
    training.compile(model)
    return model, training.fit(model, 0, training.epochs)


def train_shrunk(model, training: Training):
    """Prunes channels until the ramp ends, removes them, and trains on."""
    training.compile(model)
    # The size of a kernel before a normalization says little by itself.
    pruning = training.pruning(
        CHANNEL_SPARSITY,
        criterion="taylor",
        pattern="channel",
        filters=INNER,
    )
    seconds = training.fit(model, 0, RAMP_EPOCHS, [pruning])
    # Behind a normalization, what is left of a channel is a constant.
    smaller, report = ks.shrink(model, exact=False)
    print(report)
    seconds += training.fit(smaller, RAMP_EPOCHS, training.epochs)
    return smaller, seconds


def train_unstructured(model, training: Training, sparsity: float):
    training.compile(model)
    pruning = training.pruning(sparsity, allocation="global")
    return model, training.fit(model, 0, training.epochs, [pruning])


def sparsity_for(model, size: int) -> float:
    """The sparsity at which the model's file has so many bytes."""
    low, high = 0.0, 1.0
    for _ in range(9):
        middle = (low + high) / 2
        clone = ks.surgery.copy_model(model)
        ks.pruning.apply(clone, middle, allocation="global")
        if exported(clone)[0] > size:
            low = middle
        else:
            high = middle
    return high


def exported(model):
    """Size of the model's file, and the model as reloaded from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.squeeze.h5"
        ks.export(model, path, bits=BITS)
        return path.stat().st_size, ks.load_model(path)


def accuracy(model, data) -> float:
    scores = model.predict(data["x_test"], batch_size=200, verbose=0)
    return float(np.mean(np.argmax(scores, axis=-1) == data["y_test"]))


def multiplications(model) -> int:
    """Multiply-accumulates of one image."""
    return sum(ks.shrinking.count_macs(model).values())


def latencies(models, batch_size: int, rounds: int) -> list[float]:
    """Milliseconds of the fastest batch of each model; they take turns."""
    images = np.zeros((batch_size, 32, 32, 3), "float32")
    calls = [tf.function(model, jit_compile=False) for model in models]
    times: list[list[float]] = [[] for _ in models]
    for _ in range(rounds):
        for call, found in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call(images, training=False).numpy()
            found.append(1e3 * (time.perf_counter() - begin))
    return [min(found) for found in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", nargs="?", type=pathlib.Path, default=DEFAULT_FOLDER
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pruning-epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = pathlib.Path(args.folder)
    data = load_data(folder)
    training = Training(data, args.epochs, args.seed)
    dense, seconds = train_dense(load_network(folder), training)
    again = Training(data, args.pruning_epochs, args.seed)
    shrunk = train_shrunk(ks.surgery.copy_model(dense), again)
    size, _ = exported(shrunk[0])
    unstructured = train_unstructured(
        ks.surgery.copy_model(dense), again, sparsity_for(dense, size)
    )
    trained = {
        "dense": (dense, seconds),
        "shrunk": shrunk,
        "unstructured": unstructured,
    }
    start = accuracy(load_network(folder), data)
    print(f"before training: accuracy {start:.2%}")
    show(trained, data)


def show(trained, data) -> None:
    models = [model for model, _ in trained.values()]
    one, many = latencies(models, 1, 300), latencies(models, 128, 60)
    print(
        f"{'':14}{'accuracy':>9}{'reloaded':>9}{'parameters':>11}"
        f"{'nonzeros':>9}{'MACs':>12}{'bytes':>8}{'ms, 1':>8}{'ms, 128':>9}"
        f"{'train CPU s':>12}"
    )
    for row, (name, (model, seconds)) in enumerate(trained.items()):
        size, again = exported(model)
        nonzeros = ks.summary(model, coded=False).totals["nonzeros"]
        print(
            f"{name:14}{accuracy(model, data):>9.2%}"
            f"{accuracy(again, data):>9.2%}{model.count_params():>11,}"
            f"{nonzeros:>9,}{multiplications(model):>12,}{size:>8,}"
            f"{one[row]:>8.3f}{many[row]:>9.2f}{seconds:>12.0f}"
        )


if __name__ == "__main__":
    main()
