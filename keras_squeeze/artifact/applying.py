"""`apply`: an increment and its base to a file that stands alone."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator

from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.coding import DeferredTensor
from keras_squeeze.artifact.inspection import describe
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import TensorRecord
from keras_squeeze.artifact.opened import Artifact
from keras_squeeze.artifact.packing import write
from keras_squeeze.artifact.reading import read
from keras_squeeze.artifact.tensor_decoding import decode_parts
from keras_squeeze.artifact.tensor_input import TensorInput
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
    access = Access(limits=limits or Limits(), key=key, base=base)
    with read(path, access=access) as source:
        written = write(
            target,
            tensors_of(source),
            source.manifest.model,
            keras_version=source.keras_version,
            backend=source.backend,
            profile=profile,
            overwrite=overwrite,
        )
        with written:
            report = describe(written)
        totals = {"bytes_of_increment": source.file_bytes, **report.totals}
    return dataclasses.replace(report, totals=totals)


def tensors_of(source: Artifact) -> Iterator[DeferredTensor]:
    """The tensors of an artifact as they went into it, one at a time.

    Args:
        source: `Artifact` with its payload, and its base if it has one.

    Yields:
        `DeferredTensor`, in model order.
    """
    for record in source.tensors:
        make = functools.partial(tensor_of, source, record)
        yield DeferredTensor(record.name, make)


def tensor_of(source: Artifact, record: TensorRecord) -> TensorInput:
    """One tensor of an artifact as it went into it: codes stay codes."""
    (arrays,) = decode_parts([record], [source.stored(record)], source.base)
    return TensorInput(
        name=record.name,
        shape=record.shape,
        dtype=record.dtype,
        arrays=arrays,
        encoding=record.encoding,
        parameters=record.parameters,
    )
