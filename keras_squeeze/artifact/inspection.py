"""`inspect` and `verify`: what a file holds, and whether it is intact."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import TensorRecord
from keras_squeeze.artifact.reading import (
    Artifact,
    damaged_tensors,
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
    path: str | os.PathLike[str], limits: Limits | None = None
) -> Report:
    """Tells what an artifact holds, from its manifest; Keras is not imported.

    Args:
        path: Path of the file.
        limits: Optional `artifact.Limits`.

    Returns:
        A `Report` with a row a tensor.

    Raises:
        ArtifactError: If the file is foreign, newer, unsafe, or its manifest
            is damaged.
    """
    return describe(read_manifest(path, limits))


def verify(
    path: str | os.PathLike[str], limits: Limits | None = None
) -> Report:
    """Checks every digest of an artifact and decodes every tensor.

    Args:
        path: Path of the file.
        limits: Optional `artifact.Limits`.

    Returns:
        A `Report` with a row a tensor and its status.

    Raises:
        CorruptArtifactError: If anything is damaged; its attribute `report`
            lists every tensor's status where the manifest could be read.
        ArtifactError: If the file is foreign, newer, unsafe or too large.
    """
    artifact = read_unchecked(path, limits)
    damaged = set(damaged_tensors(artifact))
    rest = [t for t in artifact.tensors if t.name not in damaged]
    # All in one batch; one by one only to find which of them is at fault.
    if not _decode(artifact, rest):
        damaged.update(t.name for t in rest if not _decode(artifact, [t]))
    digest = hashlib.sha256(artifact.payload or b"").hexdigest()
    intact = not damaged and digest == artifact.manifest.payload_sha256
    report = _verification(artifact, damaged, intact)
    if intact:
        return report
    error = CorruptArtifactError(
        f"Expected an intact file at {artifact.path!r}. Received: "
        f"{len(damaged)} damaged tensors: {', '.join(sorted(damaged)[:10])}"
    )
    error.report = report
    raise error


def _decode(artifact: Artifact, tensors: Sequence[TensorRecord]) -> bool:
    try:
        decode_tensors(tensors, [artifact.stored(t) for t in tensors])
    except SqueezeError:
        return False
    return True


def _verification(
    artifact: Artifact, damaged: set[str], intact: bool
) -> Report:
    rows = tuple(
        {
            "tensor": tensor.name,
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
        "keras_version": artifact.keras_version,
        "generator": artifact.manifest.generator,
    }
    title = (
        f"{artifact.path}: {model.get('class_name', 'model')} "
        f"{model.get('name', '')!r}"
    )
    return Report(title, COLUMNS, rows, totals, _without_config(model))


def _without_config(model: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    if model.get("config") is not None:
        return ()
    reason = (
        f"{model.get('class_name', 'the model')} has no usable `get_config`: "
        "build the model and use `ks.load_weights`"
    )
    return ({"path": "config", "reason": reason},)


def _row(tensor: TensorRecord, artifact: Artifact) -> Mapping[str, Any]:
    stored, size = tensor.stored_bytes, max(tensor.size, 1)
    zeros = None
    if tensor.nonzero is not None and tensor.size:
        zeros = round(1 - tensor.nonzero / tensor.size, 4)
    return {
        "tensor": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "codec": _codec_name(tensor),
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
