"""Loading a model of 100 MB: an artifact of 8 bits against `.keras`.

Six Dense layers of 2048 units, 25.2 million normally distributed weights; both
files lie in the page cache; the loaders take turns in one process. A load is
all of it: reading, decoding, building the model, assigning its weights.

    python benchmarks/load_large.py --rounds 7
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_squeeze as ks

UNITS, LAYERS = 2048, 6
WARM_UP_ROUNDS = 1


def build_model() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((UNITS,))]
        + [keras.layers.Dense(UNITS, activation="relu") for _ in range(LAYERS)]
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        kernel = rng.normal(0, 0.02, (UNITS, UNITS)).astype(np.float32)
        layer.kernel.assign(kernel)
    return model


def seconds(load: Callable[[str], object], path: str) -> tuple[float, float]:
    """Wall and CPU seconds of one load."""
    keras.backend.clear_session()
    wall, cpu = time.perf_counter(), time.process_time()
    load(path)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "plain.keras")
        fast = os.path.join(folder, "fast.h5")
        model = build_model()
        model.save(plain)
        ks.export(model, fast, bits=8, profile="fast")
        del model
        loaders = {
            "keras.models.load_model(.keras)": (keras.models.load_model, plain),
            "ks.load_model, 8 bits, fast": (ks.load_model, fast),
        }
        times: dict[str, list[tuple[float, float]]] = {n: [] for n in loaders}
        for turn in range(args.rounds + WARM_UP_ROUNDS):
            for name, (load, path) in loaders.items():
                elapsed = seconds(load, path)
                if turn >= WARM_UP_ROUNDS:
                    times[name].append(elapsed)
        print_table(times, {n: path for n, (_, path) in loaders.items()})


def print_table(
    times: dict[str, list[tuple[float, float]]], paths: dict[str, str]
) -> None:
    base = next(iter(times.values()))
    print("| loader | file bytes | median s | CPU s | ratio of pairs |")
    print("|---|---|---|---|---|")
    for name, path in paths.items():
        wall = statistics.median(w for w, _ in times[name])
        cpu = statistics.median(c for _, c in times[name])
        ratio = statistics.median(
            ours[0] / theirs[0]
            for ours, theirs in zip(times[name], base, strict=True)
        )
        print(
            f"| {name} | {os.path.getsize(path):,} | {wall:.3f} "
            f"| {cpu:.3f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
