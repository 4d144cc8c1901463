"""Channels removed from every network of `keras.applications`.

Each network gets random weights, random normalization statistics near those
of a batch, and loses 30 % of its channels at random. Printed are parameters
and multiply-accumulates before and after, the largest difference between the
outputs of the smaller network and of the masked one, relative to how much the
masked one's outputs vary over a batch, and the time of the surgery.

    python benchmarks/shrink_applications.py [--max-parameters 100] [NAME ...]
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_squeeze.shrinking import choose_channels, mask_channels, shrink
from keras_squeeze.shrinking.latency import sample_batch

NAMES = (
    *("VGG16", "VGG19", "Xception", "InceptionV3", "InceptionResNetV2"),
    *(f"ResNet{depth}{v}" for v in ("", "V2") for depth in (50, 101, 152)),
    *(f"DenseNet{depth}" for depth in (121, 169, 201)),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large"),
    *("NASNetMobile", "NASNetLarge"),
    *(f"EfficientNetB{size}" for size in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3")),
    *(f"EfficientNetV2{size}" for size in "SML"),
    *(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base")),
    *("ConvNeXtLarge", "ConvNeXtXLarge"),
)
# The smallest input each network takes.
SIZES = {
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "Xception": 71,
    "NASNetLarge": 64,
    "NASNetMobile": 64,
}


class RandomCriterion:
    """Scores without meaning: channels are chosen at random."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def scores(self, kernel: np.ndarray, **_: np.ndarray) -> np.ndarray:
        """One random number a weight."""
        return self._rng.random(kernel.shape)


def build(name):
    size = SIZES.get(name, 32)
    return getattr(keras.applications, name)(
        weights=None,
        input_shape=(size, size, 3),
        classes=10,
        classifier_activation=None,
    )


def enliven(model, batch):
    """Vectors and statistics that no initializer makes, no channel dead."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) == 1:
            positive = variable.name == "gamma" or "variable" in variable.name
            low, high = (0.5, 1.5) if positive else (-0.2, 0.2)
            variable.assign(rng.uniform(low, high, variable.shape))
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not norms:
        keep_the_signal(model)
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model(batch, training=True)
    for norm in norms:
        norm.momentum = 0.99
        mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
        noise = rng.normal(0, 0.2, mean.shape) * np.sqrt(variance)
        norm.moving_mean.assign(mean + noise)
        norm.moving_variance.assign(
            (variance + 1e-3) * rng.uniform(0.7, 1.3, mean.shape)
        )


def keep_the_signal(model):
    """Kernels as wide as ReLU networks without normalization need."""
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            inputs = math.prod(variable.shape[:-1])
            kernel = variable.numpy()
            scale = np.sqrt(2 / inputs) / (kernel.std() or 1.0)
            variable.assign(kernel * scale)


def measure(name, model, seed):
    batch = sample_batch(model, 8)
    enliven(model, batch)
    channels = choose_channels(model, 0.3, RandomCriterion(seed))
    start = time.process_time()
    smaller, report = shrink(model, channels=channels)
    seconds = time.process_time() - start
    after = smaller(batch).numpy()
    del smaller
    masked = mask_channels(model, channels)
    before = masked(batch).numpy()
    difference = np.abs(after - before).max() / before.std(axis=0).max()
    totals = report.totals
    stay = len(report.skipped) - 1
    counts = [
        f"{totals[f'{what}_{when}'] / 1e6:.2f}"
        for what in ("parameters", "macs")
        for when in ("before", "after")
    ]
    cells = [name, *counts, f"{difference:.1e}", f"{seconds:.1f}", str(stay)]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--max-parameters", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        "| network | parameters, M | after | MACs, M | after "
        "| relative difference | CPU s | layers that stay |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in arguments.names or NAMES:
        model = build(name)
        if model.count_params() <= arguments.max_parameters * 1e6:
            measure(name, model, arguments.seed)
        else:
            print(f"| {name} | {model.count_params() / 1e6:.2f} | skipped |")
        del model
        keras.backend.clear_session()
        gc.collect()


if __name__ == "__main__":
    main()
