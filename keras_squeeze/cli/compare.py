"""`keras-squeeze compare FILE`: every codec on the weights of a file."""

from __future__ import annotations

import argparse
import gzip
import os
import pathlib
from typing import Any

import numpy as np

from keras_squeeze.cli.export import bits
from keras_squeeze.errors import SqueezeError
from keras_squeeze.report import Report

HELP = "measure size and speed of every codec on the weights of a file"
COLUMNS = (
    "codec",
    "tensors",
    "bytes",
    "ratio",
    "encode_mb_s",
    "decode_mb_s",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a `.h5`, `.weights.h5`, `.keras` file or an artifact",
    )
    parser.add_argument(
        "--bits",
        type=bits,
        metavar="N",
        help="compare on kernels quantized to N bits per channel",
    )


def run(args: argparse.Namespace) -> Report:
    """Reads the weights without Keras and measures all codecs on them."""
    from keras_squeeze.bridges.hdf5_files import read_arrays
    from keras_squeeze.cli import codec_trials

    weights = read_arrays(args.file)
    arrays = list(weights.values())
    original_bytes = sum(array.nbytes for array in arrays)
    if not original_bytes:
        raise SqueezeError(
            f"Expected a file with weights. Received: {args.file}, with none"
        )
    if args.bits is not None:
        arrays = quantized(weights, args.bits)
    trials = codec_trials.trials(arrays)
    rows = [{**trial.measure(), "ratio": None} for trial in trials]
    for row in rows:
        row["ratio"] = original_bytes / row["bytes"]
    content = pathlib.Path(args.file).read_bytes()
    totals = {
        "tensors": len(weights),
        "weights": sum(array.size for array in weights.values()),
        "weights_bytes": original_bytes,
        "file_bytes": os.path.getsize(args.file),
        "file_gzip_bytes": len(gzip.compress(content, 9)),
    }
    what = f", kernels at {args.bits} bits" if args.bits else ""
    title = f"{args.file}{what}: bytes of all weights, MB/s of what is coded"
    return Report(title, COLUMNS, tuple(_by_size(rows)), totals)


def _by_size(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["bytes"])


def quantized(weights: dict[str, np.ndarray], width: int) -> list[np.ndarray]:
    """The arrays a file holds for quantized kernels: codes and scales.

    Args:
        weights: Dictionary of name to array.
        width: Integer. Bits of a code.

    Returns:
        List of arrays: codes and scale for each floating-point array with two
        or more dimensions, the others as they are.

    Raises:
        NonFiniteError: If a kernel holds NaN or infinity; the message names
            it.
    """
    from keras_squeeze import quantizers

    quantizer = quantizers.get("absmax", bits=width)
    found: list[np.ndarray] = []
    for name, array in weights.items():
        if not _is_kernel(array):
            found.append(array)
            continue
        tensor = quantizer.encode(array, axis=array.ndim - 1, name=name)
        found += [tensor.codes, tensor.scale]
    return found


def _is_kernel(array: np.ndarray) -> bool:
    # bfloat16 is no float to NumPy, only a type of its own.
    floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return floating and array.ndim >= 2 and array.size > 0
