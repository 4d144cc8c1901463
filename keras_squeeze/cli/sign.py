"""`keras-squeeze sign FILE --key PRIVATE.pem`: a signature beside a file."""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib

from keras_squeeze.report import Report

HELP = "sign a file with an Ed25519 key; `FILE.sig` is the signature"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="an artifact")
    parser.add_argument(
        "--key",
        required=True,
        metavar="PEM",
        help="the private key, as `keygen` or openssl writes it",
    )
    parser.add_argument(
        "--signature",
        metavar="SIG",
        help="where to write the signature (default: FILE.sig)",
    )
    parser.add_argument(
        "--password-file",
        metavar="TXT",
        help="file whose first line is the password of the private key",
    )


def run(args: argparse.Namespace) -> Report:
    """Signs the file as it lies there, without parsing it."""
    from keras_squeeze.artifact import signing

    password = read_password(args.password_file)
    signature = signing.sign(args.file, args.key, args.signature, password)
    row = {"file": args.file, "bytes": os.path.getsize(args.file)}
    digest = hashlib.sha256(pathlib.Path(args.file).read_bytes()).hexdigest()
    return Report(
        f"{args.file}: signed, {signature}",
        ("file", "bytes"),
        (row,),
        {"signature": signature, "sha256": digest},
    )


def read_password(path: str | None) -> bytes | None:
    """The first line of a password's file.

    Args:
        path: Optional string.

    Returns:
        Bytes, or `None` without a path.
    """
    if path is None:
        return None
    return pathlib.Path(path).read_bytes().partition(b"\n")[0].rstrip(b"\r")
