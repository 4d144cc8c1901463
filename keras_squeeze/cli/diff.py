"""`keras-squeeze diff A B`: what changed from one artifact to another."""

from __future__ import annotations

import argparse

from keras_squeeze.cli.access import add_key_arguments, read_key
from keras_squeeze.report import Report

HELP = "show what changed from one artifact to another, tensor by tensor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("a", metavar="A", help="an artifact")
    parser.add_argument(
        "b", metavar="B", help="another one; may be an increment to A"
    )
    parser.add_argument(
        "--base",
        metavar="FILE",
        action="append",
        default=[],
        help="the base of A or B, if one is an increment to something else; "
        "once more for the base of that, and so on",
    )
    add_key_arguments(parser, "of encrypted files")


def run(args: argparse.Namespace) -> Report:
    """Compares the files without Keras."""
    from keras_squeeze.artifact.chain import open_chain
    from keras_squeeze.artifact.differences import diff

    key = read_key(args)
    if not args.base:
        return diff(args.a, args.b, key=key)
    with open_chain(*args.base, key=key) as base:
        return diff(args.a, args.b, base=base, key=key)
