"""`keras-squeeze keygen PRIVATE.pem PUBLIC.pem`: a key pair to sign with."""

from __future__ import annotations

import argparse

from keras_squeeze.cli.sign import read_password
from keras_squeeze.report import Report

HELP = "make a new Ed25519 key pair for `sign` and `--public-key`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "private",
        metavar="PRIVATE.pem",
        help="the key that signs; readable by its owner alone",
    )
    parser.add_argument(
        "public", metavar="PUBLIC.pem", help="the key to give to others"
    )
    parser.add_argument(
        "--password-file",
        metavar="TXT",
        help="file whose first line is to encrypt the private key",
    )


def run(args: argparse.Namespace) -> Report:
    """Makes two new files; existing ones are kept."""
    from keras_squeeze.artifact import signing

    password = read_password(args.password_file)
    signing.generate_keys(args.private, args.public, password)
    rows = (
        {"file": args.private, "key": "private, keep it secret"},
        {"file": args.public, "key": "public"},
    )
    return Report("A new Ed25519 key pair", ("file", "key"), rows, {})
