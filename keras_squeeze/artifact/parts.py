"""Coded tensors on their way into a file: in memory, or in a folder.

What is small stays in memory. What is large waits in a folder beside the
target, a file a tensor, so that memory holds one tensor at a time and a killed
export goes on where it was: a part is named by the SHA-256 of all that
determines it, and is a stream of its own, with digests, that holds the tensor
in each of its codings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import BinaryIO

import numpy as np

from keras_squeeze import __version__, native
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import Manifest, TensorRecord
from keras_squeeze.artifact.ownership import (
    OwnedFolder,
    claim,
    parts_path,
    temporary_folder,
)
from keras_squeeze.artifact.reading import parse_stream
from keras_squeeze.artifact.sources import FileSource, Source
from keras_squeeze.artifact.stream import FORMAT_VERSION, pack_stream_start
from keras_squeeze.artifact.tensor_encoding import Coded, CodedTensor
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.errors import CorruptArtifactError, SqueezeError

#: Coded bytes that are held in memory before parts go to a folder.
MEMORY_BYTES = 32 << 20
_PIECE_BYTES = 1 << 20
_KEY = "part"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclasses.dataclass(frozen=True)
class Part:
    """One coding of a tensor, its bytes in memory or in a file.

    Args:
        record: `TensorRecord`.
        data: Optional bytes.
        path: String. The file, if there are no `data`.
        offset: Integer. Where the bytes start in the file.
        key: Optional bytes. What the file is encrypted with.
    """

    record: TensorRecord
    data: bytes | None = None
    path: str = ""
    offset: int = 0
    key: bytes | None = dataclasses.field(default=None, repr=False)

    def pieces(self) -> Iterator[bytes]:
        """The stored bytes, in pieces of at most 1 MiB."""
        if self.data is not None:
            yield self.data
            return
        stop = self.offset + self.record.stored_bytes
        yield from read_pieces(self.path, self.offset, stop, self.key)


@dataclasses.dataclass(frozen=True)
class CodedParts:
    """The codings of a tensor that a profile may choose between.

    Args:
        fast: `Part` in fast codecs.
        small: The same in small ones; `None` where there is none.
    """

    fast: Part
    small: Part | None = None


class PartStore:
    """Keeps the coded tensors of one file until it is written.

    Args:
        target: String. The file that is to be written, no link.
        resume: Boolean. Whether parts of a large file outlive this process if
            it is killed, and are used by the next one.
        encrypted: Boolean. Whether parts in files are encrypted with a key
            that only this process knows; they cannot be resumed then.
    """

    def __init__(
        self, target: str, resume: bool = True, encrypted: bool = False
    ) -> None:
        self._target = target
        self._resume = resume and not encrypted
        self._key = secrets.token_bytes(32) if encrypted else None
        self._folder: OwnedFolder | None = None
        self._lasting = False
        self._coded: dict[str, CodedTensor] = {}
        self._coded_bytes = 0
        self._parts: dict[str, CodedParts] = {}
        if self._resume and os.path.isdir(parts_path(target)):
            self._folder = claim(parts_path(target))
            self._lasting = self._folder is not None

    def find(self, key: str, name: str) -> bool:
        """Whether an earlier process left the part of that key, intact.

        Args:
            key: String, by `part_key`.
            name: String. The tensor's name.
        """
        if not self._lasting or self._folder is None:
            return False
        path = self._folder.join(f"{key}.part")
        try:
            self._parts[key] = _read_part(path, key, name)
        except (OSError, SqueezeError):
            return False
        return True

    def add(self, key: str, coded: CodedTensor) -> None:
        """Keeps a tensor that was coded.

        Args:
            key: String, by `part_key`.
            coded: `CodedTensor`.
        """
        self._coded[key] = coded
        self._coded_bytes += sum(len(data) for _, data in _codings(coded))
        if self._coded_bytes > MEMORY_BYTES:
            self._write_out()

    def get(self, key: str) -> CodedParts:
        """The part of a key that was found or added."""
        if key in self._parts:
            return self._parts[key]
        codings = _codings(self._coded[key])
        return CodedParts(*(Part(record, data) for record, data in codings))

    def _write_out(self) -> None:
        if self._folder is None:
            self._folder = self._make_folder()
        for key, coded in self._coded.items():
            path = self._folder.join(f"{key}.part")
            self._parts[key] = _write_part(path, key, coded, self._key)
        self._coded, self._coded_bytes = {}, 0

    def _make_folder(self) -> OwnedFolder:
        found = claim(parts_path(self._target)) if self._resume else None
        self._lasting = found is not None
        return found or temporary_folder(self._target)

    def __enter__(self) -> PartStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            if error is not None and self._lasting and _can_go_on(error):
                folder.release()
            else:
                folder.remove()
        if error is None:
            _remove_left_parts(self._target)


def part_key(tensor: TensorInput, profile: str, base: str = "") -> str:
    """The name of a part: a digest of all that its bytes depend on.

    Args:
        tensor: `TensorInput`.
        profile: String. The profile it is coded in.
        base: String. Digest of what the coding is relative to, if anything.

    Returns:
        String, 64 hex digits.
    """
    head = {
        "version": [FORMAT_VERSION, __version__, native.available()],
        "profile": profile,
        "base": base,
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "encoding": tensor.encoding,
        "parameters": dict(tensor.parameters),
        "arrays": {
            role: [array.dtype.name, list(array.shape), array_digest(array)]
            for role, array in tensor.arrays.items()
        },
    }
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of the values of an array in hex; its shape is not in it."""
    native_order = array.dtype.newbyteorder("=")
    values = np.ascontiguousarray(array, native_order).reshape(-1)
    return hashlib.sha256(values.view(np.uint8).data).hexdigest()


def _codings(coded: CodedTensor) -> list[Coded]:
    found = [coded.fast, coded.small]
    return [coding for coding in found if coding is not None]


def _write_part(
    path: str, name: str, coded: CodedTensor, key: bytes | None
) -> CodedParts:
    codings = _codings(coded)
    records, offset, digest = [], 0, hashlib.sha256()
    for place, (record, data) in enumerate(codings):
        records.append(
            dataclasses.replace(record, name=str(place), offset=offset)
        )
        offset += len(data)
        digest.update(data)
    manifest = Manifest(
        tuple(records), offset, digest.hexdigest(), {_KEY: name}
    )
    start = pack_stream_start(manifest.to_json(), offset)
    with open(path, "wb") as file:
        write_pieces(file, [start, *(data for _, data in codings)], key)
    return CodedParts(
        *(
            Part(coding[0], None, path, len(start) + record.offset, key)
            for coding, record in zip(codings, records, strict=True)
        )
    )


def write_pieces(
    file: BinaryIO,
    pieces: Iterable[bytes | memoryview],
    key: bytes | str | None,
) -> None:
    """Writes bytes one after the other, encrypted if there is a key.

    Args:
        file: Binary file open for writing.
        pieces: Iterable of bytes.
        key: Optional bytes or string, as `EncryptedWriter` takes it.
    """
    if key is None:
        file.writelines(pieces)
        return
    from keras_squeeze.artifact.encryption import EncryptedWriter

    writer = EncryptedWriter(file, key)
    for piece in pieces:
        writer.write(piece)
    writer.close()


def read_pieces(
    path: str, start: int, stop: int, key: bytes | None
) -> Iterator[bytes]:
    """Reads what `write_pieces` wrote, in pieces of at most 1 MiB.

    Args:
        path: String. The file.
        start: Integer. Where to start.
        stop: Integer. Where to stop.
        key: Optional bytes. What the file is encrypted with.

    Yields:
        Bytes.
    """
    source = _open(path, key)
    try:
        for first in range(start, stop, _PIECE_BYTES):
            yield source.read(first, min(first + _PIECE_BYTES, stop))
    finally:
        source.close()


def _read_part(path: str, key: str, name: str) -> CodedParts:
    with open(path, "rb") as file:
        stream = file.read()
    # What a part may decode to is what the tensor in hand has.
    opened = parse_stream(stream, "", Limits(max_decoded_bytes=1 << 62))
    count = len(opened.tensors)
    if opened.manifest.model.get(_KEY) != key or count not in (1, 2):
        raise CorruptArtifactError(
            f"Expected the part {key} in one or two codings in {path}. "
            f"Received: {opened.manifest.model}, {count} codings"
        )
    start = len(stream) - opened.manifest.payload_bytes
    parts = [
        Part(
            dataclasses.replace(record, name=name, offset=0),
            None,
            path,
            start + record.offset,
        )
        for record in opened.tensors
    ]
    return CodedParts(*parts)


def _open(path: str, key: bytes | None) -> Source:
    if key is None:
        return FileSource(path)
    from keras_squeeze.artifact.encryption import DecryptedSource

    return DecryptedSource(FileSource(path), key)


def _can_go_on(error: BaseException) -> bool:
    """Whether another attempt may want the parts: not if it must fail too."""
    full = isinstance(error, OSError) and error.errno in _FULL
    return not full and not isinstance(error, SqueezeError)


def _remove_left_parts(target: str) -> None:
    path = parts_path(target)
    with contextlib.suppress(OSError):
        if os.path.isdir(path):
            folder = claim(path)
            if folder is not None:
                folder.remove()
