"""`ks.load_model` of an artifact against `keras.models.load_model` of .keras.

LeNet-5 (431,080 parameters), 90 % pruned and quantized to 5 bits per channel;
both files lie in the page cache; the two loaders take turns in one process.

    python benchmarks/load_model.py
"""

import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_squeeze as ks

ROUNDS = 15


def lenet5():
    """The Caffe variant: 20 and 50 filters of 5x5, 500 and 10 units."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(20, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def prune(model, sparsity):
    for kernel in ks.surgery.find_kernels(model):
        weights = keras.ops.convert_to_numpy(kernel.variable)
        limit = np.quantile(np.abs(weights), sparsity)
        kernel.variable.assign(np.where(np.abs(weights) < limit, 0, weights))


def seconds(function, *args):
    keras.backend.clear_session()
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def main():
    keras.utils.set_random_seed(0)
    model = lenet5()
    prune(model, 0.9)
    small, _ = ks.quantize(model, bits=5)
    folder = tempfile.mkdtemp()
    plain, packed, coded = (
        os.path.join(folder, name)
        for name in ("plain.keras", "packed.h5", "coded.h5")
    )
    model.save(plain)
    ks.export(small, packed)
    ks.export(model, coded, bits=5)
    loaders = {
        "keras.models.load_model(.keras)": (keras.models.load_model, plain),
        "ks.load_model, quantized layers": (ks.load_model, packed),
        "ks.load_model, plain layers": (ks.load_model, coded),
    }
    times = {name: [] for name in loaders}
    for turn in range(ROUNDS + 2):
        for name, (load, path) in loaders.items():
            elapsed = seconds(load, path)
            if turn >= 2:
                times[name].append(elapsed)
    base = times["keras.models.load_model(.keras)"]
    print("| loader | file bytes | median s | ratio (median of pairs) |")
    print("|---|---|---|---|")
    for name, (_, path) in loaders.items():
        ratio = statistics.median(
            a / b for a, b in zip(times[name], base, strict=True)
        )
        print(
            f"| {name} | {os.path.getsize(path):,} "
            f"| {statistics.median(times[name]):.4f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
