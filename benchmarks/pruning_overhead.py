"""What pruning costs a training step, beside a plain `fit`.

All variants train the same network in one process, each in one long `fit`.
Only one runs at a time: a baton goes round, in random order, and lets its
holder make some steps. Turns of 100 steps together, as many as lie between two
updates of the masks, make a round. A variant's figure is the CPU time of the
process in its turns, so that other work on the machine counts little; the
ratio is the median of the ratios to the plain variant in the same rounds, and
beside it, for a machine that others use, too, the ratio of the tenth
percentiles of the turns; then the same of the time on the wall.

    python benchmarks/pruning_overhead.py --model small --rounds 20
    python benchmarks/pruning_overhead.py --model large --rounds 5
    python benchmarks/pruning_overhead.py --model resnet50 --rounds 2 --no-peer

`small` is the digits network of 320,714 parameters in batches of 64, `large`
three Dense layers of 25.1 million in batches of 128, `resnet50` ResNet50 (23.6
million) on images of 128 x 128 in batches of 16. A step's masks cost as
much whatever the batch, so that the ratio falls as `--batch-size` grows; Dense
layers do the least work a weight of all. TensorFlow Model Optimization is
measured in the same way if it is installed together with tf_keras, against a
plain `fit` of tf_keras.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_squeeze as ks
from keras_squeeze.cli import demo_recipe as recipe

#: Steps between updates of the masks; a round has as many and holds one.
FREQUENCY = 100
WARM_UP_TURNS = 1
#: What is measured against a plain `fit`, by name.
PRUNINGS: dict[str, dict[str, Any]] = {
    "magnitude": {},
    "magnitude, splicing": {"regrowth": "splicing"},
    "taylor": {"criterion": "taylor"},
    "magnitude, every step": {"frequency": 1},
}


@dataclasses.dataclass(frozen=True)
class Task:
    """A network to train, under Keras 3 or tf_keras.

    Args:
        build: Callable that takes either package and gives a model.
        shape: Tuple of integers. The shape of a sample.
        batch_size: Integer.
        turn: Integer. Steps between two handovers of the baton.
        target: Float. The highest ratio that "magnitude" should cost.
        prunings: Names of what to measure.
    """

    build: Callable[[Any], Any]
    shape: tuple[int, ...]
    batch_size: int
    turn: int
    target: float
    prunings: tuple[str, ...]


def build_small(package: Any) -> Any:
    layers = package.layers
    same = {"padding": "same", "activation": "relu"}
    return package.Sequential(
        [
            package.Input((16, 16, 1)),
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


def build_large(package: Any) -> Any:
    layers = package.layers
    return package.Sequential(
        [
            package.Input((1024,)),
            layers.Dense(4096, activation="relu"),
            layers.Dense(4096, activation="relu"),
            layers.Dense(1000, activation="softmax"),
        ]
    )


def build_resnet50(package: Any) -> Any:
    return package.applications.ResNet50(
        weights=None, input_shape=(128, 128, 3), classes=10
    )


TASKS = {
    "small": Task(
        build_small, (16, 16, 1), recipe.BATCH_SIZE, 100, 1.03, tuple(PRUNINGS)
    ),
    "large": Task(build_large, (1024,), 128, 20, 1.02, tuple(PRUNINGS)[:3]),
    "resnet50": Task(
        build_resnet50, (128, 128, 3), 16, 10, 1.02, ("magnitude",)
    ),
}


class Baton:
    """Lets one `fit` of several run at a time, and times its turns.

    Its callback stands last in the list, so that the other callbacks' work at
    the end of a batch falls into the turn.
    """

    def __init__(self, name: str, turn: int) -> None:
        self.name, self._turn = name, turn
        self.go, self.done = threading.Event(), threading.Event()
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.steps = 0
        self.error: BaseException | None = None

    def begin_batch(self) -> None:
        """Waits for the baton if a turn begins."""
        if self.steps % self._turn == 0:
            self.go.wait()
            self.go.clear()
            self._clocks = time.process_time(), time.perf_counter()

    def end_batch(self) -> None:
        """Stops the clocks and passes the baton on if a turn ends."""
        self.steps += 1
        if self.steps % self._turn == 0:
            self.cpu.append(
                (time.process_time() - self._clocks[0]) / self._turn
            )
            self.wall.append(
                (time.perf_counter() - self._clocks[1]) / self._turn
            )
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


def keras_variant(name: str, task: Task, x, y, callbacks: list) -> Baton:
    model = task.build(keras)
    model.compile("adam", "sparse_categorical_crossentropy")
    baton = Baton(name, task.turn)
    callbacks = [*callbacks, baton.callback(keras.callbacks.Callback)]
    baton.start(lambda: fit(model, task, x, y, callbacks))
    return baton


def tfmot_variants(task: Task, x, y) -> dict[str, Baton]:
    import tensorflow_model_optimization as tfmot
    import tf_keras

    sparsity = tfmot.sparsity.keras
    batons = {}
    for name in ("tf_keras plain", "TFMOT prune_low_magnitude"):
        model = task.build(tf_keras)
        callbacks = []
        if name != "tf_keras plain":
            schedule = sparsity.PolynomialDecay(
                0.0, 0.9, 0, 2000, frequency=FREQUENCY
            )
            model = sparsity.prune_low_magnitude(model, schedule)
            callbacks = [sparsity.UpdatePruningStep()]
        model.compile("adam", "sparse_categorical_crossentropy")
        batons[name] = baton = Baton(name, task.turn)
        callbacks.append(baton.callback(tf_keras.callbacks.Callback))
        baton.start(lambda m=model, c=callbacks: fit(m, task, x, y, c))
    return batons


def fit(model, task: Task, x, y, callbacks: list) -> None:
    model.fit(
        x,
        y,
        batch_size=task.batch_size,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def make_batons(task: Task, x, y, with_peer: bool) -> dict[str, Baton]:
    schedule = ks.schedules.PolynomialDecay(0.0, 0.9, 0, 2000)
    batons = {"Keras plain": keras_variant("Keras plain", task, x, y, [])}
    for name in task.prunings:
        arguments = {"frequency": FREQUENCY, **PRUNINGS[name]}
        pruning = ks.callbacks.Pruning(schedule, **arguments)
        batons[name] = keras_variant(name, task, x, y, [pruning])
    packages = ("tensorflow_model_optimization", "tf_keras")
    if with_peer and all(map(importlib.util.find_spec, packages)):
        batons |= tfmot_variants(task, x, y)
    return batons


def rounds(times: list[float], task: Task) -> np.ndarray:
    """The time a step in each round, the mean over its turns."""
    turns = np.array(times[WARM_UP_TURNS:])
    return turns.reshape(-1, FREQUENCY // task.turn).mean(axis=1)


def ratios(batons: dict[str, Baton], name: str, task: Task) -> np.ndarray:
    """A variant's CPU time over that of its plain `fit`, round by round."""
    plain = plain_of(batons, name)
    return rounds(batons[name].cpu, task) / rounds(plain.cpu, task)


def undisturbed_ratio(
    batons: dict[str, Baton], name: str, clock: str = "cpu"
) -> float:
    """A ratio of the tenth percentiles of all turns.

    Other work on the machine only ever adds to a turn.

    Args:
        batons: Dictionary of variants by name.
        name: String. The variant.
        clock: String. `"cpu"` or `"wall"`. Defaults to `"cpu"`.
    """
    pair = batons[name], plain_of(batons, name)
    low, plain = (
        np.percentile(getattr(baton, clock)[WARM_UP_TURNS:], 10)
        for baton in pair
    )
    return float(low / plain)


def plain_of(batons: dict[str, Baton], name: str) -> Baton:
    legacy = name.startswith(("tf_keras", "TFMOT"))
    return batons["tf_keras plain" if legacy else "Keras plain"]


def print_table(batons: dict[str, Baton], task: Task) -> None:
    print(
        f"{'variant':<28}{'CPU ms/step':>12}{'ratio':>8}"
        f"{'[quartiles]':>16}{'undisturbed':>13}{'wall ms':>10}{'ratio':>8}"
    )
    for name, baton in batons.items():
        ratio = ratios(batons, name, task)
        low, middle, high = np.percentile(ratio, [25, 50, 75])
        print(
            f"{name:<28}{np.median(rounds(baton.cpu, task)) * 1e3:>12.2f}"
            f"{middle:>8.3f}"
            f"{f'[{low:.2f}..{high:.2f}]':>16}"
            f"{undisturbed_ratio(batons, name):>13.3f}"
            f"{np.percentile(baton.wall, 10) * 1e3:>10.2f}"
            f"{undisturbed_ratio(batons, name, 'wall'):>8.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(TASKS), default="small")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--no-peer", action="store_true")
    args = parser.parse_args()
    task = TASKS[args.model]
    if args.batch_size:
        task = dataclasses.replace(task, batch_size=args.batch_size)
    turns = args.rounds * FREQUENCY // task.turn + WARM_UP_TURNS
    rng = np.random.default_rng(0)
    samples = task.batch_size * task.turn * (turns + 1)
    x = rng.random((samples, *task.shape), dtype=np.float32)
    y = rng.integers(0, 10, samples)
    batons = make_batons(task, x, y, not args.no_peer)
    order = list(batons.values())
    for done in range(turns):
        random.Random(done).shuffle(order)
        for baton in order:
            baton.turn()
    print_table(batons, task)
    ratio = np.median(ratios(batons, "magnitude", task))
    reached = "reached" if ratio <= task.target else "MISSED"
    print(f"target: magnitude at most {task.target}: {reached}")


if __name__ == "__main__":
    main()
