"""CPU time of signing, checking, encrypting and decrypting a large file."""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

from keras_squeeze.artifact import encryption, signing
from keras_squeeze.artifact.sources import FileSource
from keras_squeeze.report import Report


def seconds(act: Callable[[], object], rounds: int = 3) -> float:
    """The least CPU time of a few rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        act()
        times.append(time.process_time() - start)
    return min(times)


def measure(folder: pathlib.Path, megabytes: int) -> Report:
    """Measures on a file of random bytes.

    Args:
        folder: Where the files are written.
        megabytes: Integer. Size of the file.

    Returns:
        A `Report` with a row an operation.
    """
    path, sealed = folder / "m.h5", folder / "m.h5.enc"
    private, public = folder / "private.pem", folder / "public.pem"
    path.write_bytes(os.urandom(1_000_000) * megabytes)
    signing.generate_keys(private, public)
    signing.sign(path, private)
    data, key = path.read_bytes(), bytes(32)

    def encrypt() -> None:
        sealed.unlink(missing_ok=True)
        encryption.encrypt_file(path, sealed, key)

    def decrypt() -> None:
        source = encryption.DecryptedSource(FileSource(sealed), key)
        for start in range(0, source.size, 1 << 20):
            source.read(start, min(start + (1 << 20), source.size))
        source.close()

    def check() -> None:
        signing.check_signature(data, f"{path}.sig", public, str(path))

    acts = {
        "encrypt a file": encrypt,
        "decrypt a file": decrypt,
        "sign a file": lambda: signing.sign(path, private),
        "check a signature": check,
    }
    rows = []
    for name, act in acts.items():
        taken = seconds(act)
        rows.append({"what": name, "mb_per_s": megabytes / taken})
    with open(os.devnull, "wb") as nothing:
        scrypt = seconds(lambda: encryption.EncryptedWriter(nothing, "word"))
    totals = {
        "megabytes": megabytes,
        "passphrase_seconds": scrypt,
        "growth": sealed.stat().st_size / len(data) - 1,
    }
    return Report(
        "Signing and encryption", ("what", "mb_per_s"), tuple(rows), totals
    )


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(measure(pathlib.Path(folder), args.megabytes))


if __name__ == "__main__":
    main()
