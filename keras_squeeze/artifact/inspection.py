"""`inspect` and `verify`: what a file holds, and whether it is intact."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from keras_squeeze.artifact.access import AccessOptions, make_access
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import TensorRecord
from keras_squeeze.artifact.opened import (
    Artifact,
    in_batches,
    memory_errors_as_ours,
)
from keras_squeeze.artifact.reading import (
    damaged_tensors,
    payload_digest,
    read_manifest,
    read_unchecked,
)
from keras_squeeze.artifact.tensor_decoding import decode_tensors
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.report import Report

COLUMNS = (
    "tensor",
    "shape",
    "dtype",
    "codec",
    "sparsity",
    "bits_per_weight",
    "bytes",
    "share",
)


def inspect(
    path: str | os.PathLike[str],
    limits: Limits | None = None,
    **access: Unpack[AccessOptions],
) -> Report:
    """Tells what an artifact holds, from its manifest; Keras is not imported.

    Args:
        path: Path of the file.
        limits: Optional `artifact.Limits`.
        **access: What vouches for the file and the key to decrypt it with:
            `expected_sha256`, `public_key`, `signature`, `key`, as
            `artifact.Access` describes them.

    Returns:
        A `Report` with a row a tensor.

    Raises:
        ArtifactError: If the file is foreign, newer, unsafe, not what is
            vouched for, or its manifest is damaged.
    """
    return describe(read_manifest(path, access=make_access(limits, access)))


def verify(
    path: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    isolate: bool = False,
    **access: Unpack[AccessOptions],
) -> Report:
    """Checks every digest of an artifact and decodes every tensor.

    Args:
        path: Path of the file.
        limits: Optional `artifact.Limits`.
        isolate: Boolean. Whether a child process with bounded memory and time
            does it, so that no file can harm this one. Defaults to `False`.
        **access: What vouches for the file, the key to decrypt it with, and
            the base of a file that holds changes: `expected_sha256`,
            `public_key`, `signature`, `key`, `base`, as `artifact.Access`
            describes them.

    Returns:
        A `Report` with a row a tensor and its status.

    Raises:
        CorruptArtifactError: If anything is damaged; its attribute `report`
            lists every tensor's status where the manifest could be read.
        ArtifactError: If the file is foreign, newer, unsafe, too large, or
            not what is vouched for.
    """
    wanted = make_access(limits, access)
    if isolate:
        from keras_squeeze.artifact.isolation import verify_isolated

        report: Report = verify_isolated(path, wanted)
        return report
    name = os.fspath(path)
    with (
        memory_errors_as_ours(name),
        read_unchecked(name, access=wanted) as artifact,
    ):
        return _verify(artifact)


def _verify(artifact: Artifact) -> Report:
    damaged = set(damaged_tensors(artifact))
    rest = [t for t in artifact.tensors if t.name not in damaged]
    for batch in in_batches(rest):
        # A batch at once; one by one only to find which of them is at fault.
        if not _decode(artifact, batch):
            damaged.update(t.name for t in batch if not _decode(artifact, [t]))
    digest = payload_digest(artifact)
    intact = not damaged and digest == artifact.manifest.payload_sha256
    report = _verification(artifact, damaged, intact)
    if intact:
        return report
    names = [t.name for t in artifact.tensors if t.name in damaged]
    error = CorruptArtifactError(
        f"Expected an intact file at {artifact.path!r}. Received: "
        f"{len(damaged)} damaged tensors: {', '.join(map(repr, names[:10]))}"
    )
    error.report = report
    raise error


def _decode(artifact: Artifact, tensors: Sequence[TensorRecord]) -> bool:
    try:
        payloads = [artifact.stored(tensor) for tensor in tensors]
        decode_tensors(tensors, payloads, base=artifact.base)
    except SqueezeError:
        return False
    return True


def _verification(
    artifact: Artifact, damaged: set[str], intact: bool
) -> Report:
    rows = tuple(
        {
            "tensor": printable(tensor.name),
            "bytes": tensor.stored_bytes,
            "status": "damaged" if tensor.name in damaged else "ok",
        }
        for tensor in artifact.tensors
    )
    totals = {
        "ok": intact,
        "tensors": len(rows),
        "damaged": len(damaged),
        "file_bytes": artifact.file_bytes,
        "digest": artifact.digest,
    }
    title = f"{artifact.path}: {'intact' if intact else 'DAMAGED'}"
    return Report(title, ("tensor", "bytes", "status"), rows, totals)


def describe(artifact: Artifact) -> Report:
    """The table of an artifact: a row a tensor, totals for the file."""
    rows = tuple(_row(tensor, artifact) for tensor in artifact.tensors)
    parameters = sum(tensor.size for tensor in artifact.tensors)
    float32_bytes = 4 * parameters
    payload = artifact.manifest.payload_bytes
    model = artifact.manifest.model
    totals = {
        "file_bytes": artifact.file_bytes,
        "payload_bytes": payload,
        "manifest_bytes": artifact.stored_manifest_bytes,
        "container_bytes": artifact.file_bytes
        - payload
        - artifact.stored_manifest_bytes,
        "parameters": parameters,
        "float32_bytes": float32_bytes,
        "ratio": float32_bytes / artifact.file_bytes,
        "digest": artifact.digest,
        "keras_version": printable(artifact.keras_version),
        "generator": printable(artifact.manifest.generator),
    }
    base = artifact.manifest.base
    if base is not None:
        totals["base"] = base.digest
    title = (
        f"{artifact.path}: {printable(str(model.get('class_name', 'model')))} "
        f"{str(model.get('name', ''))!r}"
    )
    return Report(title, COLUMNS, rows, totals, _without_config(model))


def printable(text: str) -> str:
    r"""A string of a file with what a terminal would obey written out.

    Args:
        text: String.

    Returns:
        String. Control characters, marks of direction and surrogates are
        escape sequences.

    Example:
    >>> printable("dense\x1b[2J\u202ekernel")
    'dense\\x1b[2J\\u202ekernel'
    """
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _without_config(model: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    if model.get("config") is not None:
        return ()
    reason = (
        f"{printable(str(model.get('class_name', 'the model')))} has no usable "
        "`get_config`: build the model and use `ks.load_weights`"
    )
    return ({"path": "config", "reason": reason},)


def _row(tensor: TensorRecord, artifact: Artifact) -> Mapping[str, Any]:
    stored, size = tensor.stored_bytes, max(tensor.size, 1)
    zeros = None
    if tensor.nonzero is not None and tensor.size:
        zeros = round(1 - tensor.nonzero / tensor.size, 4)
    return {
        "tensor": printable(tensor.name),
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "codec": printable(_codec_name(tensor)),
        "sparsity": zeros,
        "bits_per_weight": round(8 * stored / size, 3),
        "bytes": stored,
        "share": round(stored / artifact.file_bytes, 4),
    }


def _codec_name(tensor: TensorRecord) -> str:
    names = [str(part.codec.get("id")) for part in tensor.parts]
    if tensor.encoding == "values":
        return "+".join(names)
    if tensor.encoding == "packed":
        return f"packed {tensor.parameters.get('width')}-bit {names[0]}"
    kind = "" if tensor.encoding == "quantized" else f"{tensor.encoding} "
    if tensor.parameters.get("codebook"):
        kind = f"{tensor.parameters['codebook']} "
    return f"{kind}{tensor.parameters.get('bits')}-bit " + "+".join(names)
