"""What `MagnitudePruning` costs a training step, beside a plain `fit`.

All variants train the digits network of 320,714 parameters in one process,
each in one long `fit`. Only one runs at a time: a baton goes round, in random
order, and lets its holder make 100 steps. A variant's figure is the CPU time
of the process in its turns, so that other work on the machine counts little;
the ratio is the median of the ratios to the plain turns of the same rounds.

    python benchmarks/pruning_overhead.py --rounds 20

TensorFlow Model Optimization is measured in the same way if it is installed
together with tf_keras, against a plain `fit` of tf_keras.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import threading
import time
from collections.abc import Callable

import keras
import numpy as np

import keras_squeeze as ks
from keras_squeeze.cli import demo_recipe as recipe

FREQUENCY = 100
#: As long as an update is away from the next: each turn holds one.
TURN = FREQUENCY
WARM_UP_TURNS = 1
TARGET_RATIO = 1.03


class Baton:
    """Lets one `fit` of several run at a time, and times its turns.

    Its callback stands last in the list, so that the other callbacks' work at
    the end of a batch falls into the turn.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.go, self.done = threading.Event(), threading.Event()
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.steps = 0
        self.error: BaseException | None = None

    def begin_batch(self) -> None:
        """Waits for the baton if a turn begins."""
        if self.steps % TURN == 0:
            self.go.wait()
            self.go.clear()
            self._clocks = time.process_time(), time.perf_counter()

    def end_batch(self) -> None:
        """Stops the clocks and passes the baton on if a turn ends."""
        self.steps += 1
        if self.steps % TURN == 0:
            self.cpu.append((time.process_time() - self._clocks[0]) / TURN)
            self.wall.append((time.perf_counter() - self._clocks[1]) / TURN)
            self.done.set()

    def callback(self, base: type):
        """A callback of the Keras that `base` belongs to."""
        baton = self

        class BatonCallback(base):
            def on_train_batch_begin(self, batch, logs=None):
                baton.begin_batch()

            def on_train_batch_end(self, batch, logs=None):
                baton.end_batch()

        return BatonCallback()

    def start(self, fit: Callable[[], object]) -> None:
        """Runs a `fit` in a thread of its own."""

        def run() -> None:
            try:
                fit()
            except BaseException as error:
                self.error = error
                self.done.set()

        threading.Thread(target=run, daemon=True, name=self.name).start()

    def turn(self) -> None:
        """Lets the `fit` make one turn."""
        self.done.clear()
        self.go.set()
        self.done.wait()
        if self.error is not None:
            raise SystemExit(f"{self.name}: {self.error!r}")


def keras_variant(name: str, x, y, callbacks: list) -> Baton:
    model = recipe.build_digits_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    baton = Baton(name)
    callbacks = [*callbacks, baton.callback(keras.callbacks.Callback)]
    baton.start(lambda: fit(model, x, y, callbacks))
    return baton


def tfmot_variants(x, y) -> dict[str, Baton]:
    import tensorflow_model_optimization as tfmot
    import tf_keras

    sparsity = tfmot.sparsity.keras
    batons = {}
    for name in ("tf_keras plain", "TFMOT prune_low_magnitude"):
        model = legacy_model(tf_keras)
        callbacks = []
        if name != "tf_keras plain":
            schedule = sparsity.PolynomialDecay(
                0.0, 0.9, 0, 2000, frequency=FREQUENCY
            )
            model = sparsity.prune_low_magnitude(model, schedule)
            callbacks = [sparsity.UpdatePruningStep()]
        model.compile("adam", "sparse_categorical_crossentropy")
        batons[name] = baton = Baton(name)
        callbacks.append(baton.callback(tf_keras.callbacks.Callback))
        baton.start(lambda m=model, c=callbacks: fit(m, x, y, c))
    return batons


def legacy_model(tf_keras):
    layers = tf_keras.layers
    same = {"padding": "same", "activation": "relu"}
    return tf_keras.Sequential(
        [
            tf_keras.Input((16, 16, 1)),
            layers.Conv2D(32, 3, **same),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, **same),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, **same),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def fit(model, x, y, callbacks: list) -> None:
    model.fit(
        x,
        y,
        batch_size=recipe.BATCH_SIZE,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def make_batons(x, y) -> dict[str, Baton]:
    def pruning(frequency: int):
        schedule = ks.schedules.PolynomialDecay(0.0, 0.9, 0, 2000)
        return [ks.callbacks.MagnitudePruning(schedule, frequency=frequency)]

    batons = {
        name: keras_variant(name, x, y, callbacks)
        for name, callbacks in {
            "Keras plain": [],
            f"MagnitudePruning({FREQUENCY})": pruning(FREQUENCY),
            "MagnitudePruning(1)": pruning(1),
        }.items()
    }
    if all(
        importlib.util.find_spec(package)
        for package in ("tensorflow_model_optimization", "tf_keras")
    ):
        batons |= tfmot_variants(x, y)
    return batons


def ratios(batons: dict[str, Baton], name: str) -> np.ndarray:
    """A variant's CPU time over that of its plain `fit`, round by round."""
    legacy = name.startswith(("tf_keras", "TFMOT"))
    plain = batons["tf_keras plain" if legacy else "Keras plain"]
    return np.divide(
        batons[name].cpu[WARM_UP_TURNS:], plain.cpu[WARM_UP_TURNS:]
    )


def print_table(batons: dict[str, Baton]) -> None:
    print(
        f"{'variant':<28}{'CPU ms/step':>12}{'ratio':>8}"
        f"{'[quartiles]':>16}{'best wall ms':>14}"
    )
    for name, baton in batons.items():
        low, middle, high = np.percentile(ratios(batons, name), [25, 50, 75])
        print(
            f"{name:<28}{np.median(baton.cpu[WARM_UP_TURNS:]) * 1e3:>12.2f}"
            f"{middle:>8.3f}"
            f"{f'[{low:.2f}..{high:.2f}]':>16}"
            f"{min(baton.wall[WARM_UP_TURNS:]) * 1e3:>14.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    turns = args.rounds + WARM_UP_TURNS
    rng = np.random.default_rng(0)
    samples = recipe.BATCH_SIZE * TURN * (turns + 1)
    x = rng.random((samples, 16, 16, 1), dtype=np.float32)
    y = rng.integers(0, 10, samples)
    batons = make_batons(x, y)
    order = list(batons.values())
    for done in range(turns):
        random.Random(done).shuffle(order)
        for baton in order:
            baton.turn()
    print_table(batons)
    ratio = np.median(ratios(batons, f"MagnitudePruning({FREQUENCY})"))
    reached = "reached" if ratio <= TARGET_RATIO else "MISSED"
    print(f"target: at most {TARGET_RATIO} at frequency {FREQUENCY}: {reached}")


if __name__ == "__main__":
    main()
