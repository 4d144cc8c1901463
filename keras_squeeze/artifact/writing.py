"""Atomic, durable writing: the target is the old file or the whole new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from keras_squeeze.artifact.ownership import remove_abandoned, temporary_folder
from keras_squeeze.errors import ArtifactError, ArtifactExistsError

#: What the name of an encrypted file may end in beside `.h5`.
ENCRYPTED_SUFFIX = ".h5.enc"


def check_target(path: str, overwrite: bool, encrypted: bool = False) -> None:
    """Refuses a target that could not be written, before any work is done.

    Args:
        path: String. The file to write; its folder must exist.
        overwrite: Boolean. Whether an existing file may be replaced.
        encrypted: Boolean. Whether the file will be encrypted; then it may
            end in `.h5.enc` too. Defaults to `False`.

    Raises:
        ArtifactExistsError: If the file exists and `overwrite` is false.
        ArtifactError: If the path cannot be written.
    """
    endings = (".h5", ENCRYPTED_SUFFIX) if encrypted else (".h5",)
    if not path.endswith(endings):
        raise ArtifactError(
            f"Expected a path that ends in {' or '.join(endings)}. "
            f"Received: {path}"
        )
    if path.endswith(".weights.h5"):
        raise ArtifactError(
            "Expected a path that does not end in .weights.h5, which Keras "
            f"takes for its own weight files. Received: {path}"
        )
    if os.path.lexists(path) and not overwrite:
        raise ArtifactExistsError(
            "Expected a path where no file is, or overwrite=True. "
            f"Received: {path}"
        )
    if os.path.lexists(path) and not os.path.isfile(path):
        raise ArtifactError(f"Expected a regular file. Received: {path}")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ArtifactError(
            f"Expected a path in an existing, writable folder. Received: {path}"
        )


def write_atomically(
    path: str,
    write: Callable[[str], None],
    verify: Callable[[str], None],
) -> None:
    """Writes beside the target, verifies, and only then takes its place.

    The new file lies in a folder of its own, that nobody else can look into.
    What writers of the same target left behind when they were killed is
    removed.

    Args:
        path: String. The target; a link is followed.
        write: Callable taking the temporary path; writes the file.
        verify: Callable taking the temporary path; raises if the file that
            came to lie on the disk is not what was meant.

    Raises:
        ArtifactError: If the operating system refuses; the target is as it
            was and the temporary file is gone.
    """
    target = os.path.realpath(path)
    try:
        remove_abandoned(target)
        with temporary_folder(target) as folder:
            temporary = folder.join("new" + _suffix(target))
            write(temporary)
            _keep_mode(target, temporary)
            _fsync(temporary)
            verify(temporary)
            os.replace(temporary, target)
            _fsync(os.path.dirname(target))
    except OSError as error:
        raise ArtifactError(
            f"Expected to be able to write {path}. Received: {error}"
        ) from error


def check_not_empty(path: str) -> None:
    """Raises `ArtifactError` if a file that was just written is empty."""
    if not os.path.getsize(path):
        raise ArtifactError(f"Expected a file with content. Received: {path}")


def _suffix(target: str) -> str:
    # Some writers tell the format by the end of the name.
    name = os.path.basename(target)
    known = (".weights.h5", ".keras", ".h5")
    return next((end for end in known if name.endswith(end)), "")


def _keep_mode(target: str, temporary: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.chmod(temporary, os.stat(target).st_mode & 0o7777)


def _fsync(path: str) -> None:
    # Windows can neither open a folder nor flush a read-only descriptor.
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
