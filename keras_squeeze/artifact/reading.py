"""Reading an artifact: limits, digests, manifest, then tensors on demand."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zlib

import numpy as np

from keras_squeeze.artifact.container import open_stream
from keras_squeeze.artifact.limits import Limits, check_limit
from keras_squeeze.artifact.manifest import Manifest, TensorRecord
from keras_squeeze.artifact.stream import (
    HEADER_BYTES,
    Header,
    parse_header,
    unpack_manifest,
)
from keras_squeeze.artifact.tensor_decoding import decode_tensors
from keras_squeeze.errors import CorruptArtifactError, SqueezeError


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A file that was opened: its manifest, and its payload if it was read.

    Args:
        path: String. Where it was read from.
        file_bytes: Integer. Size of the file.
        digest: String. SHA-256 that vouches for the whole content, in hex.
        manifest: The `Manifest`.
        keras_version: String. Which Keras wrote the model's config.
        stored_manifest_bytes: Integer. Size of the compressed manifest.
        payload: Optional bytes. `None` if only the manifest was read.
        backend: String. The backend that Keras ran on. Defaults to
            `"tensorflow"`.
    """

    path: str
    file_bytes: int
    digest: str
    manifest: Manifest
    keras_version: str
    stored_manifest_bytes: int
    payload: bytes | None = None
    backend: str = "tensorflow"

    @property
    def tensors(self) -> tuple[TensorRecord, ...]:
        """The records of all tensors, in model order."""
        return self.manifest.tensors

    def stored(self, tensor: TensorRecord) -> bytes:
        """The stored bytes of a tensor, checked against its CRC-32.

        Raises:
            CorruptArtifactError: If the checksum does not match.
        """
        if self.payload is None:
            raise SqueezeError(
                f"Expected an artifact read with its payload. "
                f"Received: {self.path!r} with the manifest only"
            )
        stop = tensor.offset + tensor.stored_bytes
        data = self.payload[tensor.offset : stop]
        if zlib.crc32(data) != tensor.crc32:
            raise CorruptArtifactError(
                f"Expected the tensor {tensor.name!r} of {self.path!r} to have "
                f"CRC-32 {tensor.crc32:08x}. Received: {zlib.crc32(data):08x}"
            )
        return data

    def decode(self, name: str) -> np.ndarray:
        """One tensor, by its path in the model."""
        for tensor in self.tensors:
            if tensor.name == name:
                return decode_tensors([tensor], [self.stored(tensor)])[0]
        raise SqueezeError(
            f"Expected the name of a tensor in {self.path!r}. "
            f"Received: {name!r}"
        )

    def decode_all(self) -> dict[str, np.ndarray]:
        """All tensors by their path in the model, in model order."""
        payloads = [self.stored(tensor) for tensor in self.tensors]
        arrays = decode_tensors(self.tensors, payloads)
        return {
            tensor.name: array
            for tensor, array in zip(self.tensors, arrays, strict=True)
        }


def read(
    path: str | os.PathLike[str], limits: Limits | None = None
) -> Artifact:
    """Reads an artifact whole and checks every digest.

    Args:
        path: Path of the file.
        limits: Optional `Limits`. Defaults to `Limits()`.

    Returns:
        An `Artifact` with its payload.

    Raises:
        CorruptArtifactError: If a digest does not match; the message names
            the damaged tensors.
        ArtifactError: If the file is foreign, newer, unsafe or too large.
    """
    artifact = read_unchecked(path, limits)
    _check_payload(artifact)
    return artifact


def read_unchecked(
    path: str | os.PathLike[str], limits: Limits | None = None
) -> Artifact:
    """Reads manifest and payload; the payload's digests are not checked."""
    return _open(path, limits or Limits(), with_payload=True)


def read_manifest(
    path: str | os.PathLike[str], limits: Limits | None = None
) -> Artifact:
    """Reads and checks the manifest only; the payload stays on the disk."""
    return _open(path, limits or Limits(), with_payload=False)


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
    limits = limits or Limits()
    header = parse_header(stream[:HEADER_BYTES], len(stream), limits)
    start = stream[: header.payload_offset]
    artifact = Artifact(
        path="stream",
        file_bytes=len(stream),
        digest=header.sha256.hex(),
        manifest=_parse_manifest(header, start, limits, "stream"),
        keras_version=keras_version,
        stored_manifest_bytes=header.manifest_stored_bytes,
        payload=stream[header.payload_offset :],
    )
    _check_payload(artifact)
    return artifact


def _open(
    path: str | os.PathLike[str], limits: Limits, with_payload: bool
) -> Artifact:
    name = os.fspath(path)
    with open_stream(name, limits) as reader:
        header = reader.header
        offset = header.payload_offset
        start = reader.read(0, offset)
        return Artifact(
            path=name,
            file_bytes=os.path.getsize(name),
            digest=header.sha256.hex(),
            manifest=_parse_manifest(header, start, limits, name),
            keras_version=reader.keras_version,
            stored_manifest_bytes=header.manifest_stored_bytes,
            payload=reader.read(offset, offset + header.payload_bytes)
            if with_payload
            else None,
            backend=reader.backend,
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
    check_limit("decoded bytes", decoded, limits.decoded_bytes(stream_bytes))
    return manifest


def _check_payload(artifact: Artifact) -> None:
    expected = artifact.manifest.payload_sha256
    received = hashlib.sha256(artifact.payload or b"").hexdigest()
    if received != expected:
        damaged = ", ".join(map(repr, damaged_tensors(artifact))) or "none"
        raise CorruptArtifactError(
            f"Expected a payload with SHA-256 {expected} in {artifact.path!r}; "
            f"damaged tensors: {damaged}. Received: {received}"
        )


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
