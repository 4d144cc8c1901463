"""What training with rounding costs a step, and what accuracy it gives.

Step cost: every variant trains the same network in one process, each in one
long `fit`; a baton goes round in random order, every ten steps, as in
`pruning_overhead.py`, whose figures (CPU time of the process, as ratios to the
plain variant) are used here too.
The network is that of the digits with 320,714 parameters, batches of 64, Adam.
A codebook that hardens does so longer than is measured. `quantize_model` and
`cluster_weights` of TensorFlow Model Optimization are measured against a plain
`fit` of tf_keras if they are installed.

Accuracy: LeNet-5 (431,080 parameters) on Fashion-MNIST is trained, then
rounded, and then trained on with rounding; the test accuracy is that of the
quantized model.

    python benchmarks/quantization_aware_training.py cost --rounds 10
    python benchmarks/quantization_aware_training.py accuracy FOLDER

FOLDER holds `fashion_mnist.npz`; it defaults as in `fashion_mnist_lenet5.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import pathlib
import random
import tempfile
from typing import Any

import fashion_mnist_lenet5 as lenet5
import keras
import numpy as np
import pruning_overhead as overhead

import keras_squeeze as ks

Quantization = ks.callbacks.QuantizationAwareTraining
#: What is measured against a plain `fit`, by name.
VARIANTS: dict[str, dict[str, Any]] = {
    "8 bits": {"bits": 8},
    "4 bits": {"bits": 4},
    "8 bits, steps not learned": {"bits": 8, "learn_scale": False},
    "codebook of 16, hard": {
        "bits": 4,
        "quantizer": "kmeans",
        "hardening_steps": 0,
    },
    "codebook of 16, hardening": {
        "bits": 4,
        "quantizer": "kmeans",
        "hardening_steps": 1_000_000,
    },
}
TARGETS = {"8 bits": 1.10, "codebook of 16, hardening": 1.25}

#: Width and quantizer of what is compared on Fashion-MNIST.
GRIDS = [
    (8, "mse"),
    (4, "mse"),
    (3, "mse"),
    (2, "mse"),
    (4, "kmeans"),
    (3, "kmeans"),
    (2, "kmeans"),
]
EPOCHS, TUNING_EPOCHS = 3, 2
TUNING_RATE = 5e-4


def cost_batons(task, x, y) -> dict[str, Any]:
    batons = {"Keras plain": overhead.keras_variant("", task, x, y, [])}
    for name, arguments in VARIANTS.items():
        callback = Quantization(**arguments)
        batons[name] = overhead.keras_variant(name, task, x, y, [callback])
    packages = ("tensorflow_model_optimization", "tf_keras")
    if all(map(importlib.util.find_spec, packages)):
        batons |= peer_batons(task, x, y)
    return batons


def peer_batons(task, x, y) -> dict[str, Any]:
    import tensorflow_model_optimization as tfmot
    import tf_keras

    clustering = tfmot.clustering.keras
    initialization = clustering.CentroidInitialization.KMEANS_PLUS_PLUS
    wrappers = {
        "tf_keras plain": lambda model: model,
        "TFMOT quantize_model": tfmot.quantization.keras.quantize_model,
        "TFMOT cluster_weights 16": lambda model: clustering.cluster_weights(
            model, 16, cluster_centroids_init=initialization
        ),
    }
    batons = {}
    for name, wrap in wrappers.items():
        model = wrap(task.build(tf_keras))
        model.compile("adam", "sparse_categorical_crossentropy")
        batons[name] = baton = overhead.Baton(name, task.turn)
        callbacks = [baton.callback(tf_keras.callbacks.Callback)]
        baton.start(lambda m=model, c=callbacks: overhead.fit(m, task, x, y, c))
    return batons


def measure_cost(rounds: int) -> None:
    task = dataclasses.replace(overhead.TASKS["small"], turn=10)
    turns = rounds * overhead.FREQUENCY // task.turn + overhead.WARM_UP_TURNS
    rng = np.random.default_rng(0)
    samples = task.batch_size * task.turn * (turns + 1)
    x = rng.random((samples, *task.shape), dtype=np.float32)
    y = rng.integers(0, 10, samples)
    batons = cost_batons(task, x, y)
    order = list(batons.values())
    for done in range(turns):
        random.Random(done).shuffle(order)
        for baton in order:
            baton.turn()
    overhead.print_table(batons, task)
    for name, target in TARGETS.items():
        ratio = np.median(overhead.ratios(batons, name, task))
        reached = "reached" if ratio <= target else "MISSED"
        print(f"target: {name} at most {target}: {reached} ({ratio:.3f})")


def accuracy(model, data) -> float:
    predictions = model.predict(data["x_test"], batch_size=500, verbose=0)
    return float((predictions.argmax(1) == data["y_test"]).mean())


def file_bytes(model) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.squeeze.h5"
        ks.export(model, path)
        return path.stat().st_size


def measure_accuracy(folder: pathlib.Path) -> None:
    data = lenet5.load_data(folder)
    model = lenet5.build_model(0)
    fit(model, data, lenet5.LEARNING_RATE, EPOCHS)
    weights = model.get_weights()
    print(f"float, {EPOCHS} epochs: {accuracy(model, data):.4f}")
    fit(model, data, TUNING_RATE, TUNING_EPOCHS)
    tuned = accuracy(model, data)
    print(f"float, {TUNING_EPOCHS} epochs more: {tuned:.4f}")
    print(f"{'grid':<18}{'rounded':>10}{'trained so':>12}{'file bytes':>12}")
    for bits, quantizer in GRIDS:
        model = lenet5.build_model(0)
        model.set_weights(weights)
        callback = Quantization(bits, quantizer)
        rounded, _ = ks.quantize(
            model, quantizer=callback.quantizer, method="round"
        )
        before = accuracy(rounded, data)
        fit(model, data, TUNING_RATE, TUNING_EPOCHS, callback)
        after = accuracy(model, data)
        name = f"{quantizer}, {bits} bits"
        size = file_bytes(model)
        print(f"{name:<18}{before:>10.4f}{after:>12.4f}{size:>12,}")


def fit(model, data, rate: float, epochs: int, *callbacks) -> None:
    steps = epochs * -(-len(data["x_train"]) // lenet5.BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy"
    )
    model.fit(
        data["x_train"],
        data["y_train"],
        lenet5.BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["cost", "accuracy"])
    parser.add_argument(
        "folder", nargs="?", default=lenet5.DEFAULT_FOLDER, type=pathlib.Path
    )
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    if args.what == "cost":
        measure_cost(args.rounds)
    else:
        measure_accuracy(args.folder)


if __name__ == "__main__":
    main()
