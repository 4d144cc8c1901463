"""`keras-squeeze export MODEL OUT`: a Keras file as an artifact."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from keras_squeeze.report import Report

HELP = "write a `.keras` or `.h5` model as an artifact"
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
GRANULARITIES = ("per_channel", "per_tensor", "per_group")
PROFILES = ("auto", "fast", "small")
_QUANTIZE = ("bits", "snr_db", "quality", "max_bytes")
_NEED_BITS = ("quantizer", "granularity", "group_size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a whole-model file")
    parser.add_argument("out", metavar="OUT", help="the artifact to write")
    parser.add_argument(
        "--bits",
        type=bits,
        metavar="N",
        help="quantize the kernels in the file to 1 to 8 bits, or 16; "
        "without it the file is lossless",
    )
    parser.add_argument(
        "--quantizer", metavar="NAME", help="how to choose the scale"
    )
    parser.add_argument(
        "--granularity",
        choices=GRANULARITIES,
        help="which weights share a scale (default: per_channel)",
    )
    parser.add_argument(
        "--group-size",
        type=int,
        metavar="N",
        help="weights that share a scale, with --granularity per_group",
    )
    parser.add_argument(
        "--snr-db",
        type=float,
        metavar="DB",
        help="quantize the kernels to this signal-to-noise ratio",
    )
    parser.add_argument(
        "--quality",
        type=float,
        metavar="Q",
        help="the same from 0 to 100: 6 dB to 42 dB",
    )
    parser.add_argument(
        "--max-bytes",
        type=int,
        metavar="N",
        help="quantize the kernels so that OUT has at most N bytes",
    )
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default="auto",
        help="fast: decoded at memory-like speed; small: the fewest bytes; "
        "auto: small where it pays (default)",
    )
    parser.add_argument(
        "--filters",
        metavar="REGEX",
        help="quantize only kernels whose path matches",
    )
    parser.add_argument(
        "--no-overwrite",
        action="store_true",
        help="stop if OUT exists",
    )


def bits(text: str) -> int:
    """The type of `--bits`.

    Args:
        text: String. What was typed.

    Returns:
        Integer from 1 to 8, or 16.

    Raises:
        argparse.ArgumentTypeError: If it is anything else.

    Example:
    >>> bits("4")
    4
    """
    if text.isdecimal() and int(text) in WIDTHS:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"expected an integer from 1 to 8, or 16. Received: {text!r}"
    )


def run(args: argparse.Namespace) -> Report:
    """Loads the model in Keras' safe mode and exports it."""
    given = [name for name in _NEED_BITS if getattr(args, name) is not None]
    if given and args.bits is None:
        option = given[0].replace("_", "-")
        args.verb_parser.error(f"--{option} needs --bits")
    if args.filters is not None and not any(
        getattr(args, name) is not None for name in _QUANTIZE
    ):
        args.verb_parser.error(
            "--filters needs --bits, --snr-db, --quality or --max-bytes"
        )
    from keras_squeeze.cli.quiet_keras import import_keras

    import_keras()
    from keras_squeeze import saving

    return saving.export(
        _load(args.model),
        args.out,
        quantizer=_quantizer(args),
        filters=args.filters,
        overwrite=not args.no_overwrite,
        profile=args.profile,
        snr_db=args.snr_db,
        quality=args.quality,
        max_bytes=args.max_bytes,
    )


def _quantizer(args: argparse.Namespace) -> Any:
    if args.bits is None:
        return None
    from keras_squeeze.surgery.kernel_quantization import choose_quantizer

    return choose_quantizer(
        args.quantizer, args.bits, args.granularity, args.group_size
    )


def _load(path: str) -> Any:
    import keras

    from keras_squeeze import saving
    from keras_squeeze.errors import NotAnArtifactError, UnsupportedModelError

    if path.endswith(".weights.h5"):
        raise UnsupportedModelError(
            "Expected a file with a whole model, `.keras` or `.h5`; a "
            f"`.weights.h5` holds no architecture. Received: {path}"
        )
    if path.endswith(".h5"):
        with contextlib.suppress(NotAnArtifactError):
            return saving.load_model(path, safe_mode=True)
    return keras.models.load_model(path, compile=False, safe_mode=True)
