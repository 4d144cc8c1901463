"""Increments on top of increments, opened from the whole file upwards."""

from __future__ import annotations

import dataclasses
import os

from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.opened import Artifact
from keras_squeeze.artifact.reading import read
from keras_squeeze.errors import SqueezeError


def open_chain(
    *paths: str | os.PathLike[str],
    limits: Limits | None = None,
    key: bytes | str | None = None,
) -> Artifact:
    """Opens an increment with its base, and the base's base, and so on.

    What comes out may be the `base` of an export, or of what reads a file
    that was exported so.

    Args:
        *paths: Paths, the newest first: an increment, its base, the base of
            that; the last is a whole file.
        limits: Optional `artifact.Limits`, for each of them.
        key: Optional key or passphrase, where files are encrypted.

    Returns:
        `Artifact` of the first; closing it closes all of them.

    Raises:
        BaseMismatchError: If a file is not the base of the one before.
        ArtifactError: If a file is damaged, foreign, newer or unsafe.
    """
    if not paths:
        raise SqueezeError("Expected at least one path. Received: none")
    access = Access(limits=limits or Limits(), key=key)
    *above, lowest = paths
    opened = read(lowest, access=access)
    for path in reversed(above):
        opened = _join(path, opened, access)
    return opened


def _join(
    path: str | os.PathLike[str], base: Artifact, access: Access
) -> Artifact:
    try:
        joined = dataclasses.replace(access, base=base)
        opened = read(path, access=joined)
    except BaseException:
        base.close()
        raise
    if opened.base is None:
        base.close()
    return dataclasses.replace(opened, owns_base=opened.base is not None)
