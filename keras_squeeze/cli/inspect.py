"""`keras-squeeze inspect FILE`: what an artifact holds."""

from __future__ import annotations

import argparse

from keras_squeeze.cli.access import (
    access_keywords,
    access_of,
    add_access_arguments,
)
from keras_squeeze.report import Report

HELP = "show the tensors of an artifact, their codecs and their bytes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="an artifact")
    parser.add_argument(
        "--all",
        action="store_true",
        help="show every value in the file, the model's config included",
    )
    add_access_arguments(parser)


def run(args: argparse.Namespace) -> Report:
    """Reads the file without Keras."""
    from keras_squeeze import artifact

    if args.all:
        return artifact.contents(args.file, access_of(args))
    return artifact.inspect(args.file, **access_keywords(args))
