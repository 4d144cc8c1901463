"""The digits network, pruned and quantized: file size and accuracy.

The network has 320,714 parameters (1,282,856 B as float32). Each seed is
trained, pruned while it trains on, quantized and exported; the accuracy is
that of the model reloaded from the file, on 450 digits not trained on.

    python benchmarks/digits.py --seeds 0 1 2 --bits 3 4 5
    python benchmarks/digits.py --no-shifts   # 1,347 images, no augmentation
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
import time

import numpy as np

import keras_squeeze as ks
from keras_squeeze.cli import demo_recipe as recipe

TARGET_BYTES = 52_000
TARGET_ACCURACY = 0.983


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument(
        "--no-shifts",
        action="store_true",
        help="train on the 1,347 images as they are, nine times the epochs",
    )
    parser.add_argument("--epochs", type=int, help="dense epochs")
    parser.add_argument("--pruning-epochs", type=int)
    return parser.parse_args()


def train(seed: int, data: recipe.DigitsData, args: argparse.Namespace):
    """Trains one model; returns it with the accuracy it had when dense."""
    # The same number of steps, whether or not the images are shifted.
    scale = 9 if args.no_shifts else 1
    epochs = args.epochs or recipe.EPOCHS * scale
    pruning_epochs = args.pruning_epochs or recipe.PRUNING_EPOCHS * scale
    model = recipe.build_digits_model(seed)
    if model.count_params() != recipe.PARAMETERS:
        raise SystemExit(f"{model.count_params()} parameters")
    recipe.train(model, data, epochs=epochs)
    dense = recipe.accuracy(model, data)
    callbacks = recipe.pruning_callbacks(data, pruning_epochs)
    recipe.train(model, data, callbacks, pruning_epochs)
    return model, dense


def measure(model, data: recipe.DigitsData, bits: int, folder: str):
    """Quantizes and exports; returns the file's size and accuracy."""
    path = pathlib.Path(folder) / f"digits_{bits}.h5"
    quantized, _ = ks.quantize(model, bits=bits)
    ks.export(quantized, path)
    return path.stat().st_size, recipe.accuracy(ks.load_model(path), data)


def main() -> None:
    args = parse_arguments()
    data = recipe.load_digits_data(shifted=not args.no_shifts)
    results: dict[int, list[tuple[int, float]]] = {b: [] for b in args.bits}
    header = "".join(
        f"{f'{b} bits: bytes':>15}{'accuracy':>10}" for b in results
    )
    print(f"{'seed':>4}{'train s':>9}{'dense':>8}{'pruned':>8}{header}")
    for seed in args.seeds:
        begin = time.perf_counter()
        model, dense = train(seed, data, args)
        seconds = time.perf_counter() - begin
        line = f"{seed:>4}{seconds:>9.1f}{dense:>8.2%}"
        line += f"{recipe.accuracy(model, data):>8.2%}"
        with tempfile.TemporaryDirectory() as folder:
            for bits, found in results.items():
                size, accuracy = measure(model, data, bits, folder)
                found.append((size, accuracy))
                line += f"{size:>15,}{accuracy:>10.2%}"
        print(line, flush=True)
    for bits, found in results.items():
        size, accuracy = np.mean(found, axis=0)
        largest = max(size for size, _ in found)
        reached = largest <= TARGET_BYTES and accuracy >= TARGET_ACCURACY
        print(
            f"{bits} bits: mean {size:,.0f} B, largest {largest:,} B, mean "
            f"accuracy {accuracy:.2%}: target of {TARGET_BYTES:,} B at "
            f"{TARGET_ACCURACY:.1%} {'reached' if reached else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
