"""Accuracy after quantization without training, and what each unit is worth.

Models that are trained already lose bits in three ways: by rounding, by
`method="auto"` with a few hundred unlabelled training inputs, and with single
units. `--method` names units in place of `"auto"`, which tries several and
takes that much longer. With `--ends` the first and the last layer keep 8 bits.
With `--ablation` every unit is used alone once and left out once, all on the
same inputs and vectors; the line above the table says how many. `same` is the
share of test inputs with the class of the float model, `snr` the
signal-to-noise ratio of the outputs on test data in decibels.

    python benchmarks/calibration.py MODEL [MODEL ...] [--folder FOLDER]
        [--bits 8 4 3] [--method UNIT ...] [--ablation] [--ends]
        [--samples 256] [--tests 1000]

MODEL is `resnet8` (MLPerf Tiny, CIFAR-10), `toycar` (MLPerf Tiny, anomaly
detection: the figure is the reconstruction error), `vww` (MLPerf Tiny, visual
wake words; there are no labelled pictures, so CIFAR-10's are compared), or a
`.keras` file that `benchmarks/cifar10_resnet.py` wrote. The data is found as
`benchmarks/cifar10_pruning.py` says.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import h5py
import keras
import numpy as np
from cifar10_pruning import DEFAULT_FOLDER, load_data

import keras_squeeze as ks
from keras_squeeze.calibration.calibrating import UNITS
from keras_squeeze.calibration.paired_statistics import (
    ENOUGH_VECTORS,
    VECTORS_AN_INPUT,
)
from keras_squeeze.surgery import find_kernels

#: Rounding, each unit alone, all of them, and all but one.
ABLATION = {
    **{unit: [unit] for unit in UNITS},
    "all": list(UNITS),
    **{
        f"all but {left}": [unit for unit in UNITS if unit != left]
        for left in UNITS
    },
}


class Case:
    """A trained model with data.

    Args:
        model: `keras.Model`.
        calibration: Array of inputs.
        test: Array of other inputs.
        labels: Optional array of classes.
    """

    def __init__(self, model, calibration, test, labels=None):
        self.model = model
        self.calibration = calibration
        self.test = test
        self.labels = labels
        self.expected = model.predict(test, batch_size=256, verbose=0)

    def figures(self, model) -> dict[str, float]:
        """Accuracy or error, agreement with the float model, and ratio."""
        outputs = model.predict(self.test, batch_size=256, verbose=0)
        noise = np.sum(np.square(outputs - self.expected))
        found = {}
        if self.labels is not None:
            found["accuracy"] = np.mean(outputs.argmax(1) == self.labels)
        if outputs.shape == self.test.shape:
            found["mse"] = np.mean(np.square(outputs - self.test))
        else:
            same = outputs.argmax(1) == self.expected.argmax(1)
            found["same"] = np.mean(same)
        signal = np.sum(np.square(self.expected))
        found["snr"] = 10 * np.log10(signal / noise) if noise else np.inf
        return {name: float(value) for name, value in found.items()}


def load_case(name: str, folder: pathlib.Path, samples: int, tests: int):
    """The model of a name, with its data."""
    if name == "toycar":
        with np.load(folder / "ad01_toycar_clip.npz") as file:
            x = file["x"]
        return Case(load_old(folder / "models/ad01.h5"), x[::2], x[1::2])
    data = load_data(folder)
    rows = np.random.default_rng(0).permutation(len(data["x_train"]))[:samples]
    calibration = data["x_train"][rows].astype("float32")
    test = data["x_test"][:tests].astype("float32")
    labels = data["y_test"][:tests].reshape(-1)
    if name == "vww":
        calibration, test = (
            np.asarray(keras.ops.image.resize(x[:200] / 255, (96, 96)))
            for x in (calibration, test)
        )
        return Case(load_old(folder / "models/vww_96.h5"), calibration, test)
    if name == "resnet8":
        model = load_old(folder / "models/pretrainedResnet.h5")
    else:
        model = keras.models.load_model(name, compile=False)
    return Case(model, calibration, test, labels)


def load_old(path: pathlib.Path) -> keras.Model:
    """A model that Keras 2 wrote; this version refuses one of its keys."""
    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "DepthwiseConv2D":
            layer["config"].pop("groups", None)
    from keras.src.legacy.saving import saving_utils

    model = saving_utils.model_from_config(config)
    model.load_weights(path)
    return model


def line(label: str, figures: dict[str, float], seconds: float) -> None:
    """Prints a row of the table."""
    cells = [f"{name} {value:8.4f}" for name, value in figures.items()]
    print(
        f"| {label:34} | {' | '.join(cells)} | {seconds:6.1f} s |", flush=True
    )


def first_and_last(model: keras.Model) -> str:
    """A regex for the first and the last layer with a kernel."""
    paths = [kernel.path for kernel in find_kernels(model)]
    return f"^({paths[0]}|{paths[-1]})$"


def run(case: Case, bits, label: str, **arguments) -> None:
    """Quantizes and prints the figures, and the CPU time it took."""
    start = time.process_time()
    small, report = ks.quantize(case.model, bits=bits, **arguments)
    seconds = time.process_time() - start
    if arguments["method"] == "auto":
        label += f" = {report.totals.get('method', 'round')}"
    mean = report.totals["bits_per_weight"]
    line(f"{mean:.2f} bits, {label}", case.figures(small), seconds)


def main() -> None:
    """Prints a table a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 3])
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--method", nargs="+", metavar="UNIT")
    parser.add_argument("--ends", action="store_true")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--tests", type=int, default=1000)
    arguments = parser.parse_args()
    for name in arguments.models:
        case = load_case(
            name,
            pathlib.Path(arguments.folder),
            arguments.samples,
            arguments.tests,
        )
        print(
            f"\n{name}, {case.model.count_params():,} parameters, "
            f"{len(case.calibration)} calibration inputs, of each kernel "
            f"{ENOUGH_VECTORS:,} vectors or {VECTORS_AN_INPUT} an input, "
            f"{len(case.test)} test inputs"
        )
        line("float", case.figures(case.model), 0.0)
        for bits in arguments.bits:
            run(case, bits, "round", method="round")
            data = {"calibration": case.calibration}
            if arguments.ablation:
                for label, units in ABLATION.items():
                    run(case, bits, label, method=units, **data)
            data["method"] = method = arguments.method or "auto"
            label = method if method == "auto" else " + ".join(method)
            run(case, bits, label, **data)
            if arguments.ends:
                ends = {first_and_last(case.model): 8, "": bits}
                run(case, ends, f"{label}, first and last 8", **data)


if __name__ == "__main__":
    main()
