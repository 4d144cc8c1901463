"""`keras-squeeze unpack FILE TARGET`: an artifact as a plain Keras file."""

from __future__ import annotations

import argparse

from keras_squeeze.cli.access import access_keywords, add_access_arguments
from keras_squeeze.cli.termination import exit_on_termination
from keras_squeeze.report import Report

HELP = "write an artifact back as a plain Keras file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="an artifact")
    parser.add_argument(
        "target", metavar="TARGET", help="a `.weights.h5` or `.keras` file"
    )
    parser.add_argument(
        "--base",
        metavar="FILE",
        help="the artifact that FILE holds changes to",
    )
    add_access_arguments(parser)


def run(args: argparse.Namespace) -> Report:
    """Unpacks the file with Keras."""
    from keras_squeeze.cli.quiet_keras import import_keras

    import_keras()
    from keras_squeeze import saving

    with exit_on_termination():
        return saving.unpack(
            args.file, args.target, base=args.base, **access_keywords(args)
        )
