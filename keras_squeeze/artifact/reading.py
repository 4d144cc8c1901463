"""Reading an artifact: limits, digests, manifest, then tensors on demand."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os

import numpy as np

from keras_squeeze.artifact.access import Access, open_source
from keras_squeeze.artifact.hdf5_skeleton import parse_skeleton
from keras_squeeze.artifact.increments import with_base
from keras_squeeze.artifact.limits import Limits, check_limit
from keras_squeeze.artifact.manifest import Manifest, TensorRecord
from keras_squeeze.artifact.opened import Artifact
from keras_squeeze.artifact.sources import (
    BytesSource,
    SectionSource,
    Source,
    chunks,
)
from keras_squeeze.artifact.stream import (
    HEADER_BYTES,
    Header,
    parse_header,
    unpack_manifest,
)
from keras_squeeze.errors import CorruptArtifactError

__all__ = [
    "Artifact",
    "check_payload",
    "damaged_tensors",
    "equal_bits",
    "parse_source",
    "parse_stream",
    "payload_digest",
    "read",
    "read_manifest",
    "read_unchecked",
]


def read(
    path: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    access: Access | None = None,
) -> Artifact:
    """Opens an artifact and checks every digest.

    Args:
        path: Path of the file.
        limits: Optional `Limits`. Defaults to those of `access`.
        access: Optional `Access`: what vouches for the file, keys, the base.
            Defaults to `Access()`.

    Returns:
        An `Artifact`; its tensors are decoded when they are asked for.

    Raises:
        CorruptArtifactError: If a digest does not match; the message names
            the damaged tensors.
        ArtifactError: If the file is foreign, newer, unsafe or too large, or
            not what `access` vouches for.
    """
    artifact = read_unchecked(path, limits, access=access)
    try:
        check_payload(artifact)
    except BaseException:
        artifact.close()
        raise
    return artifact


def read_unchecked(
    path: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    access: Access | None = None,
) -> Artifact:
    """Opens an artifact as `read` does, but for the payload's SHA-256."""
    return _open(path, _with_limits(access, limits), with_payload=True)


def read_manifest(
    path: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    access: Access | None = None,
) -> Artifact:
    """Reads and checks the manifest only; the payload stays on the disk."""
    return _open(path, _with_limits(access, limits), with_payload=False)


def parse_stream(
    stream: bytes, keras_version: str, limits: Limits | None = None
) -> Artifact:
    """Reads an artifact whose stream is in memory and checks every digest.

    Args:
        stream: Bytes. The whole stream.
        keras_version: String. The version of Keras that reads it.
        limits: Optional `Limits`. Defaults to `Limits()`.

    Returns:
        An `Artifact` with its payload.

    Raises:
        ArtifactError: As `read` does.
    """
    source = BytesSource(stream, "stream")
    artifact = _parse(source, limits or Limits(), keras_version)
    check_payload(artifact)
    return artifact


def _with_limits(access: Access | None, limits: Limits | None) -> Access:
    access = access or Access()
    return access if limits is None else access.with_limits(limits)


def _open(
    path: str | os.PathLike[str], access: Access, with_payload: bool
) -> Artifact:
    with contextlib.ExitStack() as on_failure:
        whole = open_source(path, access)
        on_failure.callback(whole.close)
        artifact = parse_source(whole, access.limits)
        if with_payload:
            artifact = _with_base(artifact, access)
            on_failure.pop_all()
            return artifact
    return artifact.without_payload()


def parse_source(source: Source, limits: Limits | None = None) -> Artifact:
    """Reads skeleton, header and manifest of a file that is open already.

    Args:
        source: A `Source` of the whole file, not encrypted.
        limits: Optional `Limits`. Defaults to `Limits()`.

    Returns:
        An `Artifact` that reads its payload from `source`; the payload's
        SHA-256 was not checked.

    Raises:
        ArtifactError: As `read` does.
    """
    skeleton = parse_skeleton(source)
    stop = skeleton.stream_offset + skeleton.stream_bytes
    return _parse(
        SectionSource(source, skeleton.stream_offset, stop),
        limits or Limits(),
        skeleton.keras_version,
        skeleton.backend,
        source.size,
    )


def _with_base(artifact: Artifact, access: Access) -> Artifact:
    base = access.base
    if artifact.manifest.base is None or base is None:
        return with_base(artifact, None)
    if isinstance(base, Artifact):
        return with_base(artifact, base)
    # The file names the base's digest, so nobody else need vouch for it.
    opened = read(base, access=Access(access.limits, key=access.key))
    try:
        joined = with_base(artifact, opened)
    except BaseException:
        opened.close()
        raise
    return dataclasses.replace(joined, owns_base=True)


def _parse(
    stream: Source,
    limits: Limits,
    keras_version: str,
    backend: str = "tensorflow",
    file_bytes: int | None = None,
) -> Artifact:
    start = stream.read(0, min(HEADER_BYTES, stream.size))
    header = parse_header(start, stream.size, limits)
    start = stream.read(0, header.payload_offset)
    return Artifact(
        path=stream.name,
        file_bytes=stream.size if file_bytes is None else file_bytes,
        digest=header.sha256.hex(),
        manifest=_parse_manifest(header, start, limits, stream.name),
        keras_version=keras_version,
        stored_manifest_bytes=header.manifest_stored_bytes,
        source=SectionSource(stream, header.payload_offset, stream.size),
        backend=backend,
    )


def _parse_manifest(
    header: Header, start: bytes, limits: Limits, name: str
) -> Manifest:
    manifest = Manifest.from_json(unpack_manifest(header, start), limits)
    if manifest.payload_bytes != header.payload_bytes:
        raise CorruptArtifactError(
            f"Expected a payload of {manifest.payload_bytes} bytes in "
            f"{name!r}. Received: {header.payload_bytes} bytes"
        )
    stream_bytes = header.payload_offset + header.payload_bytes
    decoded = sum(tensor.decoded_bytes for tensor in manifest.tensors)
    most = limits.decoded_bytes(stream_bytes)
    check_limit("decoded bytes", decoded, most)
    # A file with holes is as long as it likes; what is read of it is memory.
    check_limit("payload bytes", manifest.payload_bytes, most)
    return manifest


def check_payload(artifact: Artifact) -> None:
    """Raises `CorruptArtifactError` if the payload's SHA-256 is another."""
    expected = artifact.manifest.payload_sha256
    received = payload_digest(artifact)
    if received != expected:
        damaged = ", ".join(map(repr, damaged_tensors(artifact))) or "none"
        raise CorruptArtifactError(
            f"Expected a payload with SHA-256 {expected} in {artifact.path!r}; "
            f"damaged tensors: {damaged}. Received: {received}"
        )


def payload_digest(artifact: Artifact) -> str:
    """SHA-256 of the payload in hex, read piece by piece."""
    digest = hashlib.sha256()
    if artifact.source is not None:
        for chunk in chunks(artifact.source):
            digest.update(chunk)
    return digest.hexdigest()


def damaged_tensors(artifact: Artifact) -> list[str]:
    """The names of the tensors whose checksum does not match."""
    return [t.name for t in artifact.tensors if not _is_intact(artifact, t)]


def _is_intact(artifact: Artifact, tensor: TensorRecord) -> bool:
    try:
        artifact.stored(tensor)
    except CorruptArtifactError:
        return False
    return True


def equal_bits(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays have equal shape, dtype and bits (NaN included)."""
    same = first.shape == second.shape and first.dtype == second.dtype
    return same and _bits(first) == _bits(second)


def _bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()
