"""Trains ResNet-20 or ResNet-56 on CIFAR-10: a network for other benchmarks.

The networks of He et al., 2015, Deep residual learning
(https://arxiv.org/abs/1512.03385), section 4.2, with 1x1 convolutions where a
shortcut changes its shape. Inputs are images with values from 0 to 255. The
data set beside this repository holds 10,000 of the 50,000 training images, so
accuracies lie below the published ones.

    python benchmarks/cifar10_resnet.py FILE.keras [--depth 20] [--epochs 12]
        [--deepen SHALLOW.keras] [--rate 0.1]

With `--deepen` the network begins as a shallower one that was trained, with
blocks added that pass on what they get (Chen et al., 2016, Net2Net,
https://arxiv.org/abs/1511.05641), and trains on from there: a deep network in
few epochs. The data is found as `cifar10_pruning.py` says.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import re

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


def deepen(model: keras.Model, shallow: keras.Model) -> None:
    """Gives a network the function of a shallower one."""
    theirs, ours = (list(map(iter, stages(m))) for m in (shallow, model))
    for given, stage in zip(theirs, ours, strict=True):
        for target in stage:
            source = next(given, None)
            if source is not None:
                for layer, other in zip(target, source, strict=True):
                    layer.set_weights(other.get_weights())
            else:
                # The sum of the block gets nothing but the shortcut.
                last = target[3]
                last.gamma.assign(keras.ops.zeros_like(last.gamma))
    head = [model.layers[-1], shallow.layers[-1]]
    head[0].set_weights(head[1].get_weights())


def stages(model: keras.Model):
    """Blocks of layers with weights: the first convolution, three stages."""
    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization)
    pairs = zip(*(in_order(model, kind) for kind in kinds), strict=True)
    flat = [list(pair) for pair in pairs]
    count, rest = (len(flat) - 3) // 6, flat[1:]
    found = [[flat[0]]]
    for stage in range(3):
        blocks = []
        for number in range(count):
            size = 3 if stage and not number else 2
            blocks.append(list(itertools.chain(*rest[:size])))
            rest = rest[size:]
        found.append(blocks)
    return found


def in_order(model: keras.Model, kind: type) -> list:
    """The layers of a class in the order in which they were made."""
    layers = [layer for layer in model.layers if isinstance(layer, kind)]
    number = re.compile(r"_(\d+)$")
    return sorted(
        layers, key=lambda x: int((number.search(x.name) or [0, 0])[1])
    )


def train(
    model: keras.Model,
    data,
    epochs: int,
    seed: int = 0,
    peak: float = PEAK_LEARNING_RATE,
) -> None:
    """Trains with momentum; the learning rate rises, then falls to zero."""
    batches = Batches(data["x_train"], data["y_train"], seed)
    steps = epochs * (len(data["y_train"]) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(
        peak / 10,
        steps - steps // 10,
        warmup_target=peak,
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
    parser.add_argument("--deepen", type=pathlib.Path)
    parser.add_argument("--rate", type=float, default=PEAK_LEARNING_RATE)
    arguments = parser.parse_args()
    data = load_data(pathlib.Path(arguments.folder))
    keras.utils.set_random_seed(0)
    model = build(arguments.depth)
    if arguments.deepen:
        deepen(model, keras.models.load_model(arguments.deepen))
    train(model, data, arguments.epochs, peak=arguments.rate)
    _, accuracy = model.evaluate(data["x_test"], data["y_test"], verbose=0)
    print(f"{model.name}: {model.count_params():,} parameters, {accuracy:.4f}")
    model.save(arguments.file)


if __name__ == "__main__":
    main()
