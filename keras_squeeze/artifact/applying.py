"""`apply`: an increment and its base to a file that stands alone."""

from __future__ import annotations

import dataclasses
import os

from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.opened import Artifact
from keras_squeeze.artifact.recoding import recode
from keras_squeeze.report import Report


def apply(
    path: str | os.PathLike[str],
    base: str | os.PathLike[str] | Artifact,
    target: str | os.PathLike[str],
    profile: str = "auto",
    overwrite: bool = True,
    limits: Limits | None = None,
    key: bytes | str | None = None,
) -> Report:
    """Writes what an increment and its base make as a file of its own.

    The file is what `export` without a base would have written: codes and
    scales of quantized tensors come back bit for bit. Keras is not imported.

    Args:
        path: Path of the increment.
        base: Path of its base, or an opened one.
        target: Path that ends in `.h5`.
        profile: String. `"fast"`, `"small"` or `"auto"`. Defaults to
            `"auto"`.
        overwrite: Boolean. Whether to replace an existing file. Defaults to
            `True`.
        limits: Optional `artifact.Limits`.
        key: Optional key or passphrase, where a file is encrypted; the new
            one is not.

    Returns:
        A `Report` with a row a tensor of the new file; the totals hold the
        bytes of both files.

    Raises:
        BaseMismatchError: If `base` is not the increment's base.
        ArtifactError: If a file is damaged, foreign, newer or unsafe, or the
            target cannot be written; it is as it was then.
    """
    report = recode(
        path, target, profile, overwrite, limits, key=key, base=base
    )
    totals = dict(report.totals)
    totals = {"bytes_of_increment": totals.pop("bytes_before"), **totals}
    return dataclasses.replace(report, totals=totals)
