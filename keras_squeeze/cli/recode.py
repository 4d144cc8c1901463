"""`keras-squeeze recode FILE OUT`: the same weights in other codecs."""

from __future__ import annotations

import argparse

from keras_squeeze.cli.access import access_keywords, add_access_arguments
from keras_squeeze.cli.export import PROFILES
from keras_squeeze.cli.termination import exit_on_termination
from keras_squeeze.report import Report

HELP = "write an artifact anew in faster or smaller codecs, without loss"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="an artifact")
    parser.add_argument("out", metavar="OUT", help="the artifact to write")
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
    parser.add_argument(
        "--base",
        metavar="BASE",
        help="the artifact that FILE holds changes to",
    )
    add_access_arguments(parser)


def run(args: argparse.Namespace) -> Report:
    """Recodes without Keras; checked before OUT is replaced."""
    from keras_squeeze import artifact

    with exit_on_termination():
        return artifact.recode(
            args.file,
            args.out,
            profile=args.profile,
            overwrite=not args.no_overwrite,
            base=args.base,
            **access_keywords(args),
        )
