"""`keras-squeeze export MODEL OUT`: a Keras file as an artifact.

What can be exported without its model being built is, without Keras.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from keras_squeeze.artifact.scrubbing import KEEP
from keras_squeeze.cli.access import add_key_arguments, read_key
from keras_squeeze.cli.termination import exit_on_termination
from keras_squeeze.report import Report

HELP = "write a `.keras`, `.h5` or `.weights.h5` file as an artifact"
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
GRANULARITIES = ("per_channel", "per_tensor", "per_group")
PROFILES = ("auto", "fast", "small")
_QUANTIZE = ("bits", "snr_db", "quality", "max_bytes")
_NEED_BITS = ("quantizer", "granularity", "group_size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a whole-model file, a `.weights.h5` or a `.weights.json` with "
        "its shards",
    )
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
    _add_large_arguments(parser)
    add_key_arguments(parser, "to encrypt OUT with")


def _add_large_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base",
        metavar="FILE",
        help="an earlier artifact; OUT holds only what changed since",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="code N tensors at once, in threads (default: 1)",
    )
    parser.add_argument(
        "--no-resume",
        action="store_true",
        help="begin anew and keep nothing if interrupted",
    )
    parser.add_argument(
        "--keep",
        choices=KEEP,
        action="append",
        default=[],
        help="keep this of the model's config, too; may be repeated",
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
    """Exports the file; a model is built in Keras' safe mode only."""
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
    with exit_on_termination(), executor_of(args.jobs) as executor:
        return _export(args, executor)


def _export(args: argparse.Namespace, executor: Executor | None) -> Report:
    from keras_squeeze.bridges.exporting import can_export_file, export_file

    common: dict[str, Any] = {
        "overwrite": not args.no_overwrite,
        "profile": args.profile,
        "executor": executor,
        "base": args.base,
        "encryption_key": read_key(args),
        "resume": not args.no_resume,
        "keep": args.keep,
    }
    quantizes = any(getattr(args, name) is not None for name in _QUANTIZE)
    if not quantizes and can_export_file(args.model):
        return export_file(args.model, args.out, **common)
    from keras_squeeze.cli.quiet_keras import import_keras

    import_keras()
    from keras_squeeze import saving
    from keras_squeeze.saving.keras_files import load_keras_file

    return saving.export(
        load_keras_file(args.model),
        args.out,
        quantizer=_quantizer(args),
        filters=args.filters,
        snr_db=args.snr_db,
        quality=args.quality,
        max_bytes=args.max_bytes,
        **common,
    )


@contextlib.contextmanager
def executor_of(jobs: int) -> Iterator[Executor | None]:
    """Threads to code tensors in, `None` for one job."""
    if jobs <= 1:
        yield None
        return
    with ThreadPoolExecutor(jobs) as executor:
        yield executor


def _quantizer(args: argparse.Namespace) -> Any:
    if args.bits is None:
        return None
    from keras_squeeze.surgery.kernel_quantization import choose_quantizer

    return choose_quantizer(
        args.quantizer, args.bits, args.granularity, args.group_size
    )
