"""`recode`: the same weights in other codecs."""

from __future__ import annotations

import os

from keras_squeeze.artifact.inspection import describe
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.packing import write
from keras_squeeze.artifact.reading import Artifact, read
from keras_squeeze.artifact.tensor_decoding import decode_parts
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.report import Report


def recode(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    profile: str = "auto",
    overwrite: bool = True,
    limits: Limits | None = None,
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

    Returns:
        A `Report` with a row a tensor of the new file; the totals hold the
        bytes of both files.

    Raises:
        ArtifactError: If the file is damaged, foreign, newer or unsafe, or
            the target cannot be written; it is as it was then.
    """
    source = read(path, limits)
    written = write(
        os.fspath(target),
        inputs_of(source),
        source.manifest.model,
        keras_version=source.keras_version,
        backend=source.backend,
        profile=profile,
        overwrite=overwrite,
    )
    report = describe(written)
    totals = {"bytes_before": source.file_bytes, **report.totals}
    return Report(
        report.title, report.columns, report.rows, totals, report.skipped
    )


def inputs_of(source: Artifact) -> list[TensorInput]:
    """The tensors of an artifact as they went into it.

    Args:
        source: `Artifact` with its payload.

    Returns:
        List of `TensorInput`, in model order.
    """
    payloads = [source.stored(record) for record in source.tensors]
    decoded = decode_parts(source.tensors, payloads)
    return [
        TensorInput(
            name=record.name,
            shape=record.shape,
            dtype=record.dtype,
            arrays=arrays,
            encoding=record.encoding,
            parameters=record.parameters,
        )
        for record, arrays in zip(source.tensors, decoded, strict=True)
    ]
