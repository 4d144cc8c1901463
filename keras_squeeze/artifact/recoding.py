"""`recode`: the same weights in other codecs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Unpack

import numpy as np

from keras_squeeze.artifact.access import AccessOptions, make_access
from keras_squeeze.artifact.inspection import describe
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import TensorRecord
from keras_squeeze.artifact.opened import Artifact, in_batches
from keras_squeeze.artifact.packing import write
from keras_squeeze.artifact.reading import read
from keras_squeeze.artifact.tensor_decoding import decode_parts
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.report import Report


def recode(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    profile: str = "auto",
    overwrite: bool = True,
    limits: Limits | None = None,
    **access: Unpack[AccessOptions],
) -> Report:
    """Writes an artifact anew in the codecs of a profile, without loss.

    Codes, scales and everything else come back bit for bit; only how they are
    coded changes. Keras is not imported.

    Args:
        path: Path of the artifact.
        target: Path that ends in `.h5`; may be `path` itself.
        profile: String. `"fast"`, `"small"` or `"auto"`. Defaults to
            `"auto"`.
        overwrite: Boolean. Whether to replace an existing file. Defaults to
            `True`.
        limits: Optional `artifact.Limits`.
        **access: What vouches for the file, its key and its base, as for
            `verify`. The new file is not encrypted and has no base.

    Returns:
        A `Report` with a row a tensor of the new file; the totals hold the
        bytes of both files.

    Raises:
        ArtifactError: If the file is damaged, foreign, newer or unsafe, or
            the target cannot be written; it is as it was then.
    """
    with read(path, access=make_access(limits, access)) as source:
        written = write(
            os.fspath(target),
            inputs_of(source),
            source.manifest.model,
            keras_version=source.keras_version,
            backend=source.backend,
            profile=profile,
            overwrite=overwrite,
        )
    with written:
        report = describe(written)
    totals = {"bytes_before": source.file_bytes, **report.totals}
    return Report(
        report.title, report.columns, report.rows, totals, report.skipped
    )


def inputs_of(source: Artifact) -> Iterator[TensorInput]:
    """The tensors of an artifact as they went into it, a batch at a time.

    Args:
        source: `Artifact` with its payload.

    Yields:
        `TensorInput`, in model order.
    """
    for batch in in_batches(source.tensors):
        payloads = [source.stored(record) for record in batch]
        decoded = decode_parts(batch, payloads, base=source.base)
        for record, arrays in zip(batch, decoded, strict=True):
            yield _input(record, arrays)


def tensor_of(source: Artifact, record: TensorRecord) -> TensorInput:
    """One tensor of an artifact as it went into it: codes stay codes."""
    (arrays,) = decode_parts([record], [source.stored(record)], source.base)
    return _input(record, arrays)


def _input(
    record: TensorRecord, arrays: Mapping[str, np.ndarray]
) -> TensorInput:
    return TensorInput(
        name=record.name,
        shape=record.shape,
        dtype=record.dtype,
        arrays=arrays,
        encoding=record.encoding,
        parameters=record.parameters,
    )
