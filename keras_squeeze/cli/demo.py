"""`keras-squeeze demo`: the whole path on real data, with one table."""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

from keras_squeeze.report import Report

if TYPE_CHECKING:
    from keras_squeeze.cli.demo_recipe import DigitsData

HELP = "train, prune, quantize, export and reload a small convnet"
COLUMNS = ("step", "file", "bytes", "ratio", "accuracy")
DEFAULT_FOLDER = "keras_squeeze_demo"
ARTIFACT = "digits.squeeze.h5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "--output",
        metavar="DIR",
        default=DEFAULT_FOLDER,
        help=f"folder for the files (default: ./{DEFAULT_FOLDER})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of the weights and the batches (default: 0)",
    )


def run(args: argparse.Namespace) -> Report:
    """Trains, compresses, writes and reloads; leaves the files."""
    from keras_squeeze.cli import demo_recipe
    from keras_squeeze.cli.quiet_keras import import_keras

    started = time.perf_counter()
    data = demo_recipe.load_digits_data()
    steps = Steps(pathlib.Path(args.output), quiet=args.quiet)
    steps.folder.mkdir(parents=True, exist_ok=True)
    steps.say("Importing Keras ...")
    import_keras()
    model = demo_recipe.build_digits_model(args.seed)
    _train(model, steps, data)
    _prune(model, steps, data)
    _compress(model, steps, data)
    totals = {
        "folder": str(steps.folder),
        "seed": args.seed,
        "test_images": len(data.y_test),
        "seconds": round(time.perf_counter() - started, 1),
    }
    parameters = f"{demo_recipe.PARAMETERS:,} parameters"
    return steps.report(f"Handwritten digits, {parameters}", totals)


def _train(model: Any, steps: Steps, data: DigitsData) -> None:
    from keras_squeeze.cli import demo_recipe

    epochs = demo_recipe.EPOCHS
    steps.say(f"Training for {epochs} epochs:")
    demo_recipe.train(model, data, [steps.epoch_lines()], epochs)
    score = demo_recipe.accuracy(model, data)
    for name in ("plain.keras", "plain.h5"):
        _bare(model).save(steps.folder / name)
        steps.add("trained", name, score)
    steps.add_gzipped("trained", model, "plain.h5", score)


def _prune(model: Any, steps: Steps, data: DigitsData) -> None:
    from keras_squeeze.cli import demo_recipe

    epochs = demo_recipe.PRUNING_EPOCHS
    steps.say(f"Training on for {epochs} epochs, pruning on the way:")
    pruning = demo_recipe.pruning_callbacks(data, epochs)
    demo_recipe.train(model, data, [*pruning, steps.epoch_lines()], epochs)
    score = demo_recipe.accuracy(model, data)
    steps.add_gzipped("pruned", model, "pruned.h5", score)


def _compress(model: Any, steps: Steps, data: DigitsData) -> None:
    import keras_squeeze as ks
    from keras_squeeze.cli import demo_recipe

    steps.say(f"Quantizing to {demo_recipe.BITS} bits ...")
    small, _ = ks.quantize(model, bits=demo_recipe.BITS)
    score = demo_recipe.accuracy(small, data)
    steps.add_gzipped("quantized", small, "quantized.h5", score)
    steps.say("Exporting, verifying and reloading ...")
    path = steps.folder / ARTIFACT
    ks.export(small, path)
    ks.verify(path)
    score = demo_recipe.accuracy(ks.load_model(path), data)
    steps.add("exported, reloaded", ARTIFACT, score)


def _bare(model: Any) -> Any:
    """A copy without the optimizer, whose state would triple the files."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


@dataclasses.dataclass
class Steps:
    """The files written so far, one row each.

    Args:
        folder: Folder of the files.
        quiet: Boolean. Whether to say nothing on standard error.
    """

    folder: pathlib.Path
    quiet: bool
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def say(self, text: str) -> None:
        """Shows progress, on standard error."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def add(self, step: str, name: str, accuracy: float) -> None:
        """Adds a file that lies in the folder, with what its model achieves."""
        size = (self.folder / name).stat().st_size
        row = {"step": step, "file": name, "bytes": size}
        self.rows.append({**row, "accuracy": accuracy})

    def add_gzipped(
        self, step: str, model: Any, name: str, score: float
    ) -> None:
        """Saves a model by Keras, gzips the file, and adds that."""
        path = self.folder / name
        _bare(model).save(path)
        packed = gzip.compress(path.read_bytes(), 9, mtime=0)
        path.with_name(f"{name}.gz").write_bytes(packed)
        self.add(step, f"{name}.gz", score)

    def epoch_lines(self) -> Any:
        """A callback that shows a line an epoch."""
        import keras

        def show(epoch: int, logs: dict[str, float] | None = None) -> None:
            values = [f"{k} {v:.4f}" for k, v in (logs or {}).items()]
            self.say("  ".join([f"  epoch {epoch + 1:2}", *values]))

        return keras.callbacks.LambdaCallback(on_epoch_end=show)

    def report(self, title: str, totals: dict[str, Any]) -> Report:
        """All rows, each with its ratio to the plain model's `.h5`."""
        sizes = {row["file"]: row["bytes"] for row in self.rows}
        rows = tuple(
            {**row, "ratio": sizes["plain.h5"] / row["bytes"]}
            for row in self.rows
        )
        return Report(title, COLUMNS, rows, totals)


def closing(args: argparse.Namespace) -> str:
    """What to try next; printed under the table."""
    path = pathlib.Path(args.output, ARTIFACT)
    return (
        f"\nThe files are in {args.output}. Next:\n"
        f"  keras-squeeze inspect {path}\n"
        f"  keras-squeeze verify {path}\n"
        f"  keras-squeeze compare {path}"
    )
