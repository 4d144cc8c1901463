"""Trains ResNet-20 or ResNet-56 on CIFAR-10: a network for other benchmarks.

The networks of He et al., 2015, Deep residual learning
(https://arxiv.org/abs/1512.03385), section 4.2, with 1x1 convolutions where a
shortcut changes its shape. Inputs are images with values from 0 to 255. The
data set beside this repository holds 10,000 of the 50,000 training images, so
accuracies lie below the published ones.

    python benchmarks/cifar10_resnet.py FILE.keras [--depth 20] [--epochs 12]

The data is found as `cifar10_pruning.py` says.
"""

from __future__ import annotations

import argparse
import pathlib

import keras
from cifar10_pruning import BATCH_SIZE, DEFAULT_FOLDER, Batches, load_data

PEAK_LEARNING_RATE = 0.1
WEIGHT_DECAY = 5e-4


def build(depth: int = 20) -> keras.Model:
    """The network of `6 n + 2` layers, three stages of `n` blocks."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 64.0, offset=-1.9)(inputs)
    x = convolution(x, 16)
    for stage, filters in enumerate((16, 32, 64)):
        for number in range((depth - 2) // 6):
            strides = 2 if stage and not number else 1
            x = block(x, filters, strides)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(10, activation="softmax")(x)
    return keras.Model(inputs, outputs, name=f"resnet{depth}")


def convolution(x, filters: int, strides: int = 1, size: int = 3, relu=True):
    """A convolution, normalized; ReLU if asked."""
    x = keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY / 2),
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.layers.ReLU()(x) if relu else x


def block(x, filters: int, strides: int):
    """Two convolutions beside a shortcut."""
    y = convolution(x, filters, strides)
    y = convolution(y, filters, relu=False)
    if strides > 1:
        x = convolution(x, filters, strides, size=1, relu=False)
    return keras.layers.ReLU()(keras.layers.Add()([x, y]))


def train(model: keras.Model, data, epochs: int, seed: int = 0) -> None:
    """Trains with momentum; the learning rate rises, then falls to zero."""
    batches = Batches(data["x_train"], data["y_train"], seed)
    steps = epochs * (len(data["y_train"]) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(
        PEAK_LEARNING_RATE / 10,
        steps - steps // 10,
        warmup_target=PEAK_LEARNING_RATE,
        warmup_steps=steps // 10,
    )
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(batches, epochs=epochs, verbose=2)


def main() -> None:
    """Trains, measures and saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    data = load_data(pathlib.Path(arguments.folder))
    keras.utils.set_random_seed(0)
    model = build(arguments.depth)
    train(model, data, arguments.epochs)
    _, accuracy = model.evaluate(data["x_test"], data["y_test"], verbose=0)
    print(f"{model.name}: {model.count_params():,} parameters, {accuracy:.4f}")
    model.save(arguments.file)


if __name__ == "__main__":
    main()
