"""`Artifact`: a file that was opened, its tensors decoded on demand."""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from keras_squeeze.artifact.manifest import Manifest, TensorRecord
from keras_squeeze.artifact.sources import Source
from keras_squeeze.artifact.tensor_decoding import decode_tensors
from keras_squeeze.errors import (
    CorruptArtifactError,
    LimitExceededError,
    SqueezeError,
)

#: How many decoded bytes are made at once, unless one tensor has more.
BATCH_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A file that was opened; its payload is read tensor by tensor.

    It holds its file open until it is closed; use it in a `with` statement,
    or call `close`. Small files are held in memory instead.

    Args:
        path: String. Where it was read from.
        file_bytes: Integer. Size of the file.
        digest: String. SHA-256 that vouches for the whole content, in hex.
        manifest: The `Manifest`.
        keras_version: String. Which Keras wrote the model's config.
        stored_manifest_bytes: Integer. Size of the compressed manifest.
        source: Optional `Source` of the payload. `None` if only the manifest
            was read.
        backend: String. The backend that Keras ran on. Defaults to
            `"tensorflow"`.
        base: Optional `Artifact`. What the file holds changes to. Defaults
            to `None`.
        owns_base: Boolean. Whether the base is closed with it. Defaults to
            `False`: who opened the base closes it.
    """

    path: str
    file_bytes: int
    digest: str
    manifest: Manifest
    keras_version: str
    stored_manifest_bytes: int
    source: Source | None = None
    backend: str = "tensorflow"
    base: Artifact | None = None
    owns_base: bool = False

    @property
    def tensors(self) -> tuple[TensorRecord, ...]:
        """The records of all tensors, in model order."""
        return self.manifest.tensors

    @property
    def payload(self) -> bytes:
        """The whole payload, read into memory; nothing of it is checked."""
        source = self._payload_source()
        return source.read(0, source.size)

    def stored(self, tensor: TensorRecord) -> bytes:
        """The stored bytes of a tensor, checked against its CRC-32.

        Raises:
            CorruptArtifactError: If the checksum does not match.
        """
        stop = tensor.offset + tensor.stored_bytes
        data = self._payload_source().read(tensor.offset, stop)
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
                return self._decode([tensor])[0]
        raise SqueezeError(
            f"Expected the name of a tensor in {self.path!r}. "
            f"Received: {name!r}"
        )

    def decode_all(self) -> dict[str, np.ndarray]:
        """All tensors by their path in the model, in model order."""
        return {tensor.name: array for tensor, array in self.iterate()}

    def iterate(
        self, batch_bytes: int = BATCH_BYTES
    ) -> Iterator[tuple[TensorRecord, np.ndarray]]:
        """Decodes tensor after tensor, a batch at a time.

        What is in memory at once is one batch and what decoding it needs, two
        to four times its size, if the caller keeps nothing.

        Args:
            batch_bytes: Integer. How many decoded bytes to make at once; one
                tensor is made whole in any case. Defaults to 16 MiB.

        Yields:
            Pairs of `TensorRecord` and array, in model order.

        Raises:
            CorruptArtifactError: If a tensor is damaged.
        """
        for batch in in_batches(self.tensors, batch_bytes):
            arrays = self._decode(batch)[::-1]
            for tensor in batch:
                # Given away, so that the caller alone decides how long it
                # stays in memory.
                yield tensor, arrays.pop()

    def _decode(self, tensors: list[TensorRecord]) -> list[np.ndarray]:
        with memory_errors_as_ours(self.path):
            payloads = [self.stored(tensor) for tensor in tensors]
            return decode_tensors(tensors, payloads, base=self.base)

    def _payload_source(self) -> Source:
        if self.source is None:
            raise SqueezeError(
                f"Expected an artifact read with its payload. "
                f"Received: {self.path!r} with the manifest only"
            )
        return self.source

    def without_payload(self) -> Artifact:
        """The same with the manifest only; it can be read no further."""
        return dataclasses.replace(
            self, source=None, base=None, owns_base=False
        )

    def close(self) -> None:
        """Closes the file; what was decoded stays."""
        if self.source is not None:
            self.source.close()
        if self.base is not None and self.owns_base:
            self.base.close()

    def __enter__(self) -> Artifact:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def memory_errors_as_ours(path: str) -> Iterator[None]:
    """Says that a file, and not the program, needs too much memory.

    Args:
        path: String. The file.

    Raises:
        LimitExceededError: If there is not enough memory.
    """
    try:
        yield
    except MemoryError as error:
        raise LimitExceededError(
            f"Expected enough memory to decode {path!r}. "
            f"Received: {error or 'MemoryError'}"
        ) from error


def in_batches(
    tensors: Iterable[TensorRecord], batch_bytes: int = BATCH_BYTES
) -> Iterator[list[TensorRecord]]:
    """Groups tensors that follow each other.

    Args:
        tensors: Iterable of `TensorRecord`.
        batch_bytes: Integer. Most decoded bytes of a batch of several.

    Yields:
        Lists of `TensorRecord`, none of them empty.
    """
    batch: list[TensorRecord] = []
    total = 0
    for tensor in tensors:
        if batch and total + tensor.decoded_bytes > batch_bytes:
            yield batch
            batch, total = [], 0
        batch.append(tensor)
        total += tensor.decoded_bytes
    if batch:
        yield batch
