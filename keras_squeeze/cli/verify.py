"""`keras-squeeze verify FILE`: whether an artifact is intact."""

from __future__ import annotations

import argparse

from keras_squeeze.report import Report

HELP = "check every checksum of an artifact; exit code 1 if it is damaged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="an artifact")


def run(args: argparse.Namespace) -> Report:
    """Checks the file without Keras; raises if it is damaged."""
    from keras_squeeze import artifact

    return artifact.verify(args.file)
