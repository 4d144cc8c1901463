"""Low-rank factorization during fit: speed, accuracy, momenta.

    python benchmarks/low_rank.py speed [NAME ...] [--rounds 20]
    python benchmarks/low_rank.py accuracy fashion|cifar10 [FOLDER]
    python benchmarks/low_rank.py moments [--seeds 5] [FOLDER]

`speed`: time of a training step before and after the kernels are replaced,
beside the ratio of the multiply-adds, for three networks. Whole and factorized
network take turns in one process; the ratio is the median of the ratios of
neighbouring turns, in CPU time of the process.

`accuracy`: the same network with 2, 4 and 8 times fewer parameters in its
factorized layers by three ways of as many epochs: factorized in the second
quarter of its training; trained whole and factorized at its end; trained whole
for the first part, then factorized and fine-tuned in the last quarter.

`moments`: the training loss after kernels were replaced, with the optimizer's
momenta projected onto the factors and with fresh ones; all other things equal.

FOLDER holds `fashion_mnist.npz` and `cifar10_shared.npz`. It defaults to the
environment variable KERAS_SQUEEZE_DATA, or to `../shared/data` beside the
repository.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import keras_squeeze as ks
from keras_squeeze.factorizing.live_factorization import LiveFactorization
from keras_squeeze.shrinking import count_macs

_ROOT = pathlib.Path(__file__).resolve().parent.parent
DEFAULT_FOLDER = os.environ.get(
    "KERAS_SQUEEZE_DATA", _ROOT.parent / "shared" / "data"
)
TURN_STEPS = 3
RATIOS = (2, 4, 8)
EPOCHS = {"fashion": 12, "cifar10": 12}
MOMENT_STEPS = 600
EARLY_STEPS = 50


def build_mlp(width=2048):
    """Three wide layers."""
    return keras.Sequential(
        [
            keras.Input((width,)),
            layers.Dense(width, activation="relu"),
            layers.Dense(width, activation="relu"),
            layers.Dense(width, activation="relu"),
            layers.Dense(10),
        ]
    )


def build_vgg(width=64, size=32, normalize=False):
    """Six convolutions in three stages, and two Dense layers."""
    stack = [keras.Input((size, size, 3))]
    for stage in range(3):
        for _ in range(2):
            stack.append(layers.Conv2D(width << stage, 3, padding="same"))
            if normalize:
                stack.append(layers.BatchNormalization())
            stack.append(layers.ReLU())
        stack.append(layers.MaxPooling2D())
    stack += [
        layers.Flatten(),
        layers.Dense(width << 2, activation="relu"),
        layers.Dense(10),
    ]
    return keras.Sequential(stack)


def build_transformer(width=512, length=64, heads=8, blocks=2):
    """Blocks of attention and a feed-forward network four times as wide."""
    inputs = x = keras.Input((length, width))
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = layers.LayerNormalization()(x + attended)
        wide = layers.Dense(4 * width, activation="gelu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(width)(wide))
    outputs = layers.Dense(10)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs)


#: Network, samples in a batch, and the share of the full ranks that remains.
SPEED = {
    "MLP 2048": (build_mlp, 128, 0.0625),
    "MLP 4096": (lambda: build_mlp(4096), 128, 0.0625),
    "VGG-like 64": (build_vgg, 32, 0.25),
    "VGG-like 192": (lambda: build_vgg(192), 8, 0.25),
    "transformer 512": (build_transformer, 16, 0.125),
    "transformer 1536": (lambda: build_transformer(1536), 16, 0.125),
    "transformer 1536, 1/4": (lambda: build_transformer(1536), 16, 0.25),
}


def compiled(model):
    """The model, ready to train."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def copied(model):
    """Another model with equal weights and a fresh optimizer."""
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    return compiled(other)


def show_speed(rounds, names):
    """Prints the table of `speed`."""
    print("network                rank    parameters  FLOPs  time (quartiles)")
    for name in names or SPEED:
        build, batch, rank = SPEED[name]
        whole = compiled(build())
        small = copied(whole)
        x = np.random.default_rng(0).normal(
            size=(batch, *whole.input_shape[1:])
        )
        y = np.arange(batch) % 10
        LiveFactorization(small).factorize(rank=rank)
        ratio = interleaved(whole, small, x.astype("float32"), y, rounds)
        parameters = small.count_params() / whole.count_params()
        flops = macs(small) / macs(whole)
        quartiles = np.percentile(ratio, [25, 75])
        print(
            f"{name:21s} {rank:6.4f}  {parameters:10.3f}  {flops:5.3f}  "
            f"{np.median(ratio):.3f} ({quartiles[0]:.2f}-{quartiles[1]:.2f})",
            flush=True,
        )


def interleaved(whole, small, x, y, rounds):
    """Ratios of the CPU time of neighbouring turns."""
    for model in (whole, small):
        steps(model, x, y)
    return [
        1 / (steps(whole, x, y) / steps(small, x, y)) for _ in range(rounds)
    ]


def steps(model, x, y):
    """CPU seconds of some steps."""
    began = time.process_time()
    for _ in range(TURN_STEPS):
        model.train_on_batch(x, y)
    return time.process_time() - began


def macs(model):
    """Multiply-adds of a sample."""
    return sum(count_macs(model).values())


def load(name, folder):
    """Images in [0, 1] and labels of a data set, to train and to test."""
    if name == "fashion":
        with np.load(folder / "fashion_mnist.npz") as data:
            return [
                (
                    data[f"x_{part}"][..., None] / np.float32(255),
                    data[f"y_{part}"],
                )
                for part in ("train", "test")
            ]
    from cifar10_pruning import load_data

    data = load_data(folder)
    return [
        (data[f"x_{part}"] / np.float32(255), data[f"y_{part}"])
        for part in ("train", "test")
    ]


def build(name):
    """The network for a data set."""
    if name == "cifar10":
        return compiled(build_vgg(32, normalize=True))
    return compiled(
        keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Flatten(),
                layers.Dense(512, activation="relu"),
                layers.Dense(512, activation="relu"),
                layers.Dense(10),
            ]
        )
    )


def fit(model, data, first, last, seed=0, **kwargs):
    """Trains from one epoch to another, at a rate that falls by a cosine."""
    x, y = data
    total = kwargs.pop("total")

    def rate(epoch):
        return 1e-3 * 0.5 * (1 + np.cos(np.pi * epoch / total))

    schedule = keras.callbacks.LearningRateScheduler(rate)
    keras.utils.set_random_seed(seed)
    callbacks = [*kwargs.pop("callbacks", ()), schedule]
    model.fit(
        x,
        y,
        64,
        epochs=last,
        initial_epoch=first,
        verbose=0,
        callbacks=callbacks,
        **kwargs,
    )
    return model


def accuracy(model, data):
    """Share of the images named right."""
    return model.evaluate(*data, batch_size=500, verbose=0)[1]


def show_accuracy(name, folder):
    """Prints the table of `accuracy`."""
    train, test = load(name, folder)
    total = EPOCHS[name]
    early, late = total // 4, total - total // 4
    keras.utils.set_random_seed(0)
    begun = fit(build(name), train, 0, early, total=total)
    ready = fit(copied(begun), train, early, late, 1, total=total)
    whole = fit(copied(ready), train, late, total, 2, total=total)
    print(
        f"{name}: whole, {whole.count_params():,} parameters: "
        f"{accuracy(whole, test):.4f}",
        flush=True,
    )
    print("fewer  parameters  in fit  post-training  fine-tuned")
    for ratio in RATIOS:
        budget = {"parameters": 1 / ratio}
        during = copied(begun)
        callback = ks.callbacks.LowRankFactorization(
            budget=budget, begin_epoch=early
        )
        fit(during, train, early, total, 1, total=total, callbacks=[callback])
        post, _ = ks.factorize(whole, budget=budget)
        compiled(post)
        tuned, _ = ks.factorize(ready, budget=budget)
        fit(compiled(tuned), train, late, total, 2, total=total)
        print(
            f"{ratio:4d}x  {during.count_params():10,}  "
            f"{accuracy(during, test):.4f}  {accuracy(post, test):13.4f}  "
            f"{accuracy(tuned, test):10.4f}",
            flush=True,
        )


def show_moments(names, seeds, folder):
    """Prints the table of `moments`."""
    train, _ = load("fashion", folder)
    print(
        "optimizer  momenta   loss before  first step  mean of "
        f"{EARLY_STEPS}  steps to be back (median)"
    )
    for name in names:
        for carry in (True, False):
            runs = [after_swap(name, carry, train, s) for s in range(seeds)]
            before, first, mean, back = np.array(runs).T
            print(
                f"{name:9s}  {'projected' if carry else 'fresh':9s} "
                f"{before.mean():11.4f}  {first.mean():10.4f}  "
                f"{mean.mean():10.4f}  {np.median(back):6.0f}",
                flush=True,
            )


def after_swap(name, carry, train, seed):
    """Losses around a swap after two epochs."""
    keras.utils.set_random_seed(seed)
    model = build("fashion")
    optimizer = {
        "adam": keras.optimizers.Adam(1e-3),
        "sgd": keras.optimizers.SGD(0.01, momentum=0.9),
    }[name]
    model.compile(optimizer, model.loss)
    x, y = train[0][:20_000], train[1][:20_000]
    model.fit(x, y, 64, epochs=2, verbose=0)
    held = train[0][20_000:22_000], train[1][20_000:22_000]
    before = held_loss(model, held)
    # All but the layer of the classes.
    live = LiveFactorization(model, carry)
    live.factorize(rank=0.125, filters=lambda layer: layer.units > 10)
    rng, losses = np.random.default_rng(seed), {}
    for step in range(1, MOMENT_STEPS + 1):
        batch = rng.integers(0, len(x), 64)
        model.train_on_batch(x[batch], y[batch])
        if step == 1 or step % 10 == 0:
            losses[step] = held_loss(model, held)
            if losses[step] <= before and step >= EARLY_STEPS:
                break
    early = [loss for step, loss in losses.items() if step <= EARLY_STEPS]
    back = [step for step, loss in losses.items() if loss <= before]
    steps_back = back[0] if back else MOMENT_STEPS + 1
    return before, losses[1], float(np.mean(early)), steps_back


def held_loss(model, data):
    """The loss on images that are not trained on."""
    results = model.evaluate(
        *data, batch_size=2000, verbose=0, return_dict=True
    )
    return results["loss"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("table", choices=("speed", "accuracy", "moments"))
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--optimizers", nargs="+", default=["adam", "sgd"])
    options = parser.parse_args()
    rest = options.arguments
    if options.table == "speed":
        show_speed(options.rounds, rest)
    elif options.table == "accuracy":
        name = rest[0] if rest else "fashion"
        show_accuracy(name, pathlib.Path(*rest[1:] or [DEFAULT_FOLDER]))
    else:
        folder = pathlib.Path(*rest or [DEFAULT_FOLDER])
        show_moments(options.optimizers, options.seeds, folder)


if __name__ == "__main__":
    main()
