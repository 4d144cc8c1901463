"""`keras-squeeze compare FILE`: every codec on the weights of a file."""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import os
import pathlib

import numpy as np

from keras_squeeze.cli.export import bits
from keras_squeeze.errors import NotAnArtifactError, SqueezeError
from keras_squeeze.report import Report

HELP = "measure size and speed of every codec on the weights of a file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a `.h5`, `.weights.h5`, `.keras` file, or an artifact, of which "
        "what it stores is compared: codes and scales",
    )
    parser.add_argument(
        "--bits",
        type=bits,
        metavar="N",
        help="compare on kernels quantized to N bits per channel",
    )
    parser.add_argument(
        "--codecs",
        nargs="+",
        metavar="ID",
        help="only these codecs",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw ratio against decoding speed, as an image",
    )


def run(args: argparse.Namespace) -> Report:
    """Reads the weights without Keras and measures codecs on them."""
    from keras_squeeze.bridges.hdf5_files import read_arrays
    from keras_squeeze.codecs.comparison import compare

    weights = read_arrays(args.file)
    original_bytes = sum(array.nbytes for array in weights.values())
    if not original_bytes:
        raise SqueezeError(
            f"Expected a file with weights. Received: {args.file}, with none"
        )
    if args.bits is not None:
        arrays = quantized(weights, args.bits)
    else:
        arrays = stored_parts(args.file) or list(weights.values())
    report = compare(
        arrays, args.codecs, plot=args.plot, original_bytes=original_bytes
    )
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
    return dataclasses.replace(report, title=title, totals=totals)


def stored_parts(path: str) -> list[np.ndarray]:
    """The arrays that an artifact stores: values, or codes and scales.

    Args:
        path: String. The path of a file.

    Returns:
        List of arrays, empty if the file is no artifact.
    """
    from keras_squeeze import artifact
    from keras_squeeze.artifact.recoding import inputs_of

    try:
        source = artifact.read(path)
    except NotAnArtifactError:
        return []
    return [
        array
        for tensor in inputs_of(source)
        for array in tensor.arrays.values()
    ]


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
