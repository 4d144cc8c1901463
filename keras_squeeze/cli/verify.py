"""`keras-squeeze verify FILE`: whether an artifact is intact."""

from __future__ import annotations

import argparse

from keras_squeeze.cli.access import access_keywords, add_access_arguments
from keras_squeeze.report import Report

HELP = "check every checksum of an artifact; exit code 1 if it is damaged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="an artifact")
    parser.add_argument(
        "--base", metavar="FILE", help="the base, if FILE is an increment"
    )
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="read the file in a process of its own, with bounded memory and "
        "time",
    )
    add_access_arguments(parser)


def run(args: argparse.Namespace) -> Report:
    """Checks the file without Keras; raises if it is damaged."""
    from keras_squeeze import artifact

    return artifact.verify(
        args.file,
        isolate=args.isolate,
        base=args.base,
        **access_keywords(args),
    )
