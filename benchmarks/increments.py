"""Increments: the next checkpoint and a new head, against what else there is.

LeNet-5 (431,080 parameters) on Fashion-MNIST. Every new file is measured whole
(`fast` and `small`), as an increment to the whole file before it, as the last
of a chain of increments, and against two ways to code one file with another at
hand: `zstd -22 --patch-from`, and the exclusive or of both, its bytes sorted by
their place in a number, through `zstd -22`. These two are given the arrays
that a file holds (floats, or codes and scales), uncompressed and without any
header. Every increment is read back and compared.

    python benchmarks/increments.py FOLDER

FOLDER holds `fashion_mnist.npz`; see `fashion_mnist_lenet5.py`, whose network
this is. Needs the program `zstd`.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import tempfile

import keras
import numpy as np
from fashion_mnist_lenet5 import DEFAULT_FOLDER, build_model, load_data

import keras_squeeze as ks
from keras_squeeze import artifact
from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.recoding import tensor_of

BATCH_SIZE = 128
#: Exports by name: what `ks.export` is told.
EXPORTS = {
    "lossless": {},
    "8 bits": {"quantizer": "absmax", "bits": 8},
    "4 bits": {"quantizer": "absmax", "bits": 4},
}
COLUMNS = (
    "export",
    "checkpoint",
    "fast",
    "small",
    "increment",
    "of a chain",
    "zstd --patch-from",
    "xor, zstd",
    "small / increment",
)


def compiled(model, optimizer):
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    return model


def train(model, arrays, steps):
    """Trains for a number of steps; returns a copy of the weights."""
    count = steps * BATCH_SIZE
    order = np.random.default_rng(steps).permutation(60_000)
    order = np.resize(order, count)
    model.fit(
        arrays["x_train"][order],
        arrays["y_train"][order],
        batch_size=BATCH_SIZE,
        verbose=0,
    )
    return model.get_weights()


def successive(arrays, optimizer, steps, count, first):
    """Checkpoints of one training, after `first` steps and `steps` more."""
    model = compiled(build_model(0), optimizer)
    yield model, "first", train(model, arrays, first)
    for number in range(1, count + 1):
        yield model, f"+{number * steps} steps", train(model, arrays, steps)


def new_head(arrays):
    """A trained model, and its head trained anew on a frozen body."""
    model = compiled(build_model(0), keras.optimizers.Adam(1e-3))
    yield model, "first", train(model, arrays, 469)
    for layer in model.layers[:-1]:
        layer.trainable = False
    head = model.layers[-1].kernel
    head.assign(keras.random.normal(head.shape, stddev=0.05, seed=1))
    compiled(model, keras.optimizers.Adam(1e-3))
    yield model, "new head", train(model, arrays, 469)


def trainings(arrays):
    sgd, adam = keras.optimizers.SGD, keras.optimizers.Adam
    return {
        "SGD with momentum, epochs": lambda: successive(
            arrays, sgd(0.02, momentum=0.9), 469, 2, 469
        ),
        "SGD with momentum, 100 steps": lambda: successive(
            arrays, sgd(0.02, momentum=0.9), 100, 2, 938
        ),
        "Adam, epochs": lambda: successive(arrays, adam(1e-3), 469, 2, 469),
        "Adam, 100 steps": lambda: successive(arrays, adam(1e-3), 100, 2, 938),
        "Adam at 1e-5, 100 steps": lambda: successive(
            arrays, adam(1e-5), 100, 2, 100
        ),
        "a new head on a frozen body": lambda: new_head(arrays),
    }


def stored_bytes(opened):
    """The arrays of a file as they are before any codec, one after another."""
    parts = [
        (role, np.asarray(array))
        for record in opened.tensors
        for role, array in tensor_of(opened, record).arrays.items()
    ]
    return [array.tobytes() for _, array in parts], [
        array.itemsize for _, array in parts
    ]


def zstd(data, folder, base=None):
    """Bytes of `data` by the program `zstd`, at its best."""
    new, out = folder / "new.bin", folder / "out.zst"
    new.write_bytes(data)
    command = ["zstd", "-q", "-f", "--ultra", "-22", "--single-thread"]
    if base is not None:
        old = folder / "old.bin"
        old.write_bytes(base)
        command.append(f"--patch-from={old}")
    command += [str(new), "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out.stat().st_size


def exclusive_or(new, old, sizes):
    """Both files' differences in bits, in planes of bytes."""
    planes = []
    for one, other, size in zip(new, old, sizes, strict=True):
        if len(one) != len(other):
            planes.append(one)
            continue
        pair = [np.frombuffer(each, np.uint8) for each in (one, other)]
        changed = (pair[0] ^ pair[1]).reshape(-1, size)
        planes.append(np.ascontiguousarray(changed.T).tobytes())
    return b"".join(planes)


def check(path, base, expected):
    with artifact.read(path, access=Access(base=base)) as opened:
        for name, array in opened.decode_all().items():
            if array.tobytes() != expected[name].tobytes():
                raise SystemExit(f"{path}: {name} came back changed")


def measure(name, checkpoints, folder):
    """The rows of a training, for one way to export it."""
    before = chain = None
    for number, (model, title, weights) in enumerate(checkpoints):
        model.set_weights(weights)
        path = folder / f"{number}.h5"
        keywords = EXPORTS[name]
        fast, small = (
            ks.export(model, folder / f"{p}.h5", profile=p, **keywords)
            for p in ("fast", "small")
        )
        ks.export(model, path, **keywords)
        opened = artifact.read(path)
        arrays, sizes = stored_bytes(opened)
        if before is None:
            before, chain = (opened, arrays), opened
            continue
        increment, linked = folder / "inc.h5", folder / f"chain{number}.h5"
        alone = ks.export(model, increment, base=before[0], **keywords)
        last = ks.export(model, linked, base=chain, **keywords)
        expected = opened.decode_all()
        check(increment, before[0], expected)
        check(linked, chain, expected)
        old = before[1]
        patch = zstd(b"".join(arrays), folder, b"".join(old))
        planes = zstd(exclusive_or(arrays, old, sizes), folder)
        sizes_found = [
            report.totals["file_bytes"] for report in (fast, small, alone, last)
        ]
        ratio = sizes_found[1] / sizes_found[2]
        yield name, title, *sizes_found, patch, planes, f"{ratio:.2f}"
        chain = artifact.read(linked, access=Access(base=chain))
        before = opened, arrays


def print_row(cells):
    cells = [f"{c:,}" if isinstance(c, int) else str(c) for c in cells]
    print(f"| {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=pathlib.Path, default=DEFAULT_FOLDER
    )
    parser.add_argument(
        "--only", default="", help="trainings whose name holds this"
    )
    args = parser.parse_args()
    if shutil.which("zstd") is None:
        raise SystemExit("Expected the program `zstd`. Received: none")
    arrays = load_data(pathlib.Path(args.folder))
    for title, run in trainings(arrays).items():
        if args.only not in title:
            continue
        checkpoints = list(run())
        print(f"\n{title}\n")
        print_row(COLUMNS)
        print_row(["---"] * len(COLUMNS))
        for name in EXPORTS:
            with tempfile.TemporaryDirectory() as folder:
                for row in measure(name, checkpoints, pathlib.Path(folder)):
                    print_row(row)


if __name__ == "__main__":
    main()
