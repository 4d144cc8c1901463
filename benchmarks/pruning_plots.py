"""Draws the pictures of docs/pruning.md.

    python benchmarks/pruning_plots.py [FOLDER]

FOLDER defaults to docs/images. Needs the extras `demo` and `plot`.
"""

from __future__ import annotations

import argparse
import pathlib

import keras
from sklearn.datasets import load_digits

import keras_squeeze as ks

_ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 1000
BATCH_SIZE = 64
EPOCHS = 24


def draw_schedules(path: pathlib.Path) -> None:
    """A curve for each schedule, from 0 to 90 % between steps 200 and 800."""
    schedules = ks.schedules
    ends = {"begin_step": 200, "end_step": 800}
    named = {
        "PolynomialDecay": schedules.PolynomialDecay(0.0, 0.9, **ends),
        "CosineDecay": schedules.CosineDecay(0.0, 0.9, **ends),
        "ExponentialDecay": schedules.ExponentialDecay(0.0, 0.9, **ends),
        "Piecewise": schedules.Piecewise([200, 500, 800], [0.0, 0.3, 0.6, 0.9]),
        "OneShot": schedules.OneShot(0.9, begin_step=500),
        "ConstantSparsity": schedules.ConstantSparsity(0.5),
    }
    ks.report.plot_schedules(named, STEPS, path)


def build_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv_1"),
            keras.layers.Conv2D(64, 3, activation="relu", name="conv_2"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax", name="head"),
        ],
        name="digits",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def draw_training(folder: pathlib.Path) -> None:
    """Layers over the training under global allocation, and at its end."""
    x, y = load_digits(return_X_y=True)
    model = build_model()
    steps = EPOCHS * -(-len(x) // BATCH_SIZE)
    ramp = ks.schedules.PolynomialDecay(0.0, 0.9, steps // 8, 3 * steps // 4)
    pruning = ks.callbacks.Pruning(ramp, allocation="global", frequency=10)
    points = []

    def record(batch: int, logs: dict) -> None:
        step = int(model.optimizer.iterations)
        if step % 10 == 0:
            points.append((step, ks.summary(model, coded=False)))

    watch = keras.callbacks.LambdaCallback(on_train_batch_end=record)
    model.fit(
        x.reshape(-1, 8, 8, 1) / 16,
        y,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[pruning, watch],
    )
    ks.report.plot_sparsity(points, folder / "pruning_training.svg")
    summary = ks.summary(model)
    print(summary)
    ks.report.plot_sparsity(summary, folder / "pruning_layers.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder",
        nargs="?",
        type=pathlib.Path,
        default=_ROOT / "docs" / "images",
    )
    folder = parser.parse_args().folder
    draw_schedules(folder / "pruning_schedules.svg")
    draw_training(folder)


if __name__ == "__main__":
    main()
