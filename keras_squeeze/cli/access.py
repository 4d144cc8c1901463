"""Options shared by the verbs that read a file: who vouches for it, its key."""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING, Any

from keras_squeeze.errors import DecryptionError

if TYPE_CHECKING:
    from keras_squeeze.artifact.access import Access


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of a verb that reads an artifact."""
    group = parser.add_argument_group("checked before the file is parsed")
    group.add_argument(
        "--public-key",
        metavar="PEM",
        help="refuse the file unless this key signed it",
    )
    group.add_argument(
        "--signature",
        metavar="SIG",
        help="the signature, or an OpenSSF model-signing bundle (default: "
        "FILE.sig)",
    )
    group.add_argument(
        "--sha256",
        metavar="HEX",
        help="refuse the file unless it has this SHA-256",
    )
    add_key_arguments(parser, "of an encrypted file")


def add_key_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Declares where an encryption key comes from.

    Args:
        parser: The verb's parser.
        what: String. What the key is for, at the end of the help.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--key-file",
        metavar="KEY",
        help=f"file with the key {what}: 32 bytes or 64 hexadecimal digits",
    )
    group.add_argument(
        "--passphrase-file",
        metavar="TXT",
        help=f"file whose first line is the passphrase {what}",
    )


def access_keywords(args: argparse.Namespace) -> dict[str, Any]:
    """The options as `ks.load_model` and its like name them.

    Args:
        args: The parsed arguments.

    Returns:
        Dictionary of `public_key`, `signature`, `expected_sha256` and `key`.

    Raises:
        DecryptionError: If a key's file cannot be read.
    """
    return {
        "public_key": args.public_key,
        "signature": args.signature,
        "expected_sha256": args.sha256,
        "key": read_key(args),
    }


def access_of(args: argparse.Namespace) -> Access:
    """The options as `artifact.access.Access`.

    Args:
        args: The parsed arguments.

    Returns:
        An `Access`.

    Raises:
        DecryptionError: If a key's file cannot be read.
    """
    from keras_squeeze.artifact.access import Access

    return Access(**access_keywords(args))


def read_key(args: argparse.Namespace) -> bytes | str | None:
    """The key or passphrase that `--key-file` or `--passphrase-file` names.

    Args:
        args: The parsed arguments.

    Returns:
        Bytes, a key; a string, a passphrase; `None` if neither is given.

    Raises:
        DecryptionError: If the file cannot be read or holds none.
    """
    if args.key_file is not None:
        from keras_squeeze.artifact.encryption import read_key_file

        return read_key_file(args.key_file)
    if args.passphrase_file is not None:
        return _first_line(args.passphrase_file)
    return None


def _first_line(path: str) -> str:
    try:
        text = pathlib.Path(path).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise DecryptionError(
            f"Expected a text file with a passphrase at {path!r}. "
            f"Received: {error}"
        ) from error
    line = text.partition("\n")[0].rstrip("\r")
    if not line:
        raise DecryptionError(
            f"Expected a passphrase in the first line of {path!r}. "
            "Received: an empty line"
        )
    return line
