"""`keras-squeeze apply INCREMENT --base B OUT`: a file that stands alone."""

from __future__ import annotations

import argparse

from keras_squeeze.cli.access import add_key_arguments, read_key
from keras_squeeze.cli.export import PROFILES
from keras_squeeze.report import Report

HELP = "rebuild the whole artifact from an increment and its base"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "increment",
        metavar="INCREMENT",
        help="an artifact that was exported with a base",
    )
    parser.add_argument("out", metavar="OUT", help="the artifact to write")
    parser.add_argument(
        "--base",
        metavar="B",
        action="append",
        required=True,
        help="the increment's base; once more for the base of that, and so on",
    )
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default="auto",
        help="fast: decoded at memory-like speed; small: the fewest bytes; "
        "auto: small where it pays (default)",
    )
    parser.add_argument(
        "--no-overwrite", action="store_true", help="stop if OUT exists"
    )
    add_key_arguments(parser, "of encrypted files")


def run(args: argparse.Namespace) -> Report:
    """Rebuilds without Keras; checked before OUT is replaced."""
    from keras_squeeze.artifact.applying import apply
    from keras_squeeze.artifact.chain import open_chain

    key = read_key(args)
    with open_chain(*args.base, key=key) as base:
        return apply(
            args.increment,
            base,
            args.out,
            profile=args.profile,
            overwrite=not args.no_overwrite,
            key=key,
        )
