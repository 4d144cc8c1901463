"""`keras-squeeze inspect FILE`: what an artifact holds."""

from __future__ import annotations

import argparse

from keras_squeeze.report import Report

HELP = "show the tensors of an artifact, their codecs and their bytes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="an artifact")


def run(args: argparse.Namespace) -> Report:
    """Reads the file without Keras."""
    from keras_squeeze import artifact

    return artifact.inspect(args.file)
