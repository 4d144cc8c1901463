"""Writing an artifact: code the tensors, describe them, write atomically."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from keras_squeeze import __version__
from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.coding import AnyTensor, Expectation, TensorCoder
from keras_squeeze.artifact.container import skeleton_start
from keras_squeeze.artifact.encodings import LATER_ENCODINGS
from keras_squeeze.artifact.increments import refer_to_base
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import Manifest, TensorRecord
from keras_squeeze.artifact.opened import Artifact
from keras_squeeze.artifact.parts import (
    CodedParts,
    Part,
    PartStore,
    array_digest,
    write_pieces,
)
from keras_squeeze.artifact.reading import read
from keras_squeeze.artifact.stream import pack_stream_start
from keras_squeeze.artifact.writing import check_target, write_atomically
from keras_squeeze.codecs import profiles
from keras_squeeze.errors import ArtifactError, CorruptArtifactError

# Written a moment ago by us: there is no size to disbelieve.
_LIMITS = Limits(max_decoded_bytes=1 << 62)


def write(
    path: str | os.PathLike[str],
    tensors: Iterable[AnyTensor],
    model: Mapping[str, Any],
    *,
    keras_version: str,
    backend: str = "tensorflow",
    profile: str = "auto",
    overwrite: bool = True,
    executor: Executor | None = None,
    base: Artifact | None = None,
    encryption_key: bytes | str | None = None,
    resume: bool = True,
) -> Artifact:
    """Codes tensors and writes them as one artifact.

    The target is the old file or the complete new one at any moment: the new
    file is written beside it, flushed, read back, decoded and compared with
    `tensors` before it takes its place.

    Memory holds one tensor and what coding it needs. Coded tensors of more
    than 32 MiB in all wait in the folder `.NAME.parts` beside the target,
    which is gone when the file is written.

    Args:
        path: Path that ends in `.h5`, or in `.h5.enc` if it is encrypted.
        tensors: Iterable of `TensorInput` or `DeferredTensor`, in model
            order; the latter are made when it is their turn.
        model: Mapping. JSON-ready description, `Manifest.model`.
        keras_version: String. The version of Keras that made `model`.
        backend: String. Recorded for Keras' loader. Defaults to
            `"tensorflow"`.
        profile: String. Which codecs may be used: `"fast"`, `"small"` or
            `"auto"`; see `codecs.profiles`. Defaults to `"auto"`.
        overwrite: Boolean. Whether to replace an existing file. Defaults to
            `True`.
        executor: Optional `concurrent.futures.Executor` that codes tensors
            in parallel; the bytes do not depend on it. Twice as many tensors
            are in memory as it has workers, but no more than 256 MiB or one a
            worker.
        base: Optional opened `Artifact`. Tensors are coded against those of
            it where that is smaller, and the file can only be read together
            with it. Defaults to `None`.
        encryption_key: Optional 32 bytes, or a string, a passphrase. The file
            is encrypted with it; nothing is on the disk unencrypted at any
            moment. Defaults to `None`.
        resume: Boolean. Whether the parts of a large file stay when writing
            it is interrupted, and the next call for the same path goes on
            from them. Not with `encryption_key`. Defaults to `True`.

    Returns:
        The `Artifact` as read back from the disk.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    path = os.fspath(path)
    check_target(path, overwrite, encryption_key is not None)
    profiles.check_profile(profile)
    target = os.path.realpath(path)
    try:
        with PartStore(target, resume, encryption_key is not None) as store:
            expected = TensorCoder(store, profile, executor, base).code(tensors)
            parts = _choose([store.get(e.key) for e in expected], profile)
            manifest = _describe(parts, expected, model)
            if base is not None:
                manifest = refer_to_base(manifest, base)
            pieces = _file(parts, manifest, keras_version, backend)
            access = Access(limits=_LIMITS, key=encryption_key, base=base)
            return _write_file(path, pieces, expected, access)
    except OSError as error:
        raise ArtifactError(
            f"Expected to be able to write {path}. Received: {error}"
        ) from error


@contextlib.contextmanager
def open_base(
    base: str | os.PathLike[str] | Artifact | None,
) -> Iterator[Artifact | None]:
    """The artifact that a file is to hold changes to.

    Args:
        base: Optional path, which is opened here and closed again, or an
            opened `Artifact`, which is left open.

    Yields:
        `Artifact`, or `None` if there is no base.
    """
    if base is None or isinstance(base, Artifact):
        yield base
        return
    with read(base) as opened:
        yield opened


def _choose(coded: Sequence[CodedParts], profile: str) -> list[Part]:
    """The coding of each tensor that the whole file takes."""
    small = profiles.choose_small(
        [item.fast.record.stored_bytes for item in coded],
        [
            None if item.small is None else item.small.record.stored_bytes
            for item in coded
        ],
        [item.fast.record.size for item in coded],
        profile,
    )
    return [
        item.small if take and item.small else item.fast
        for item, take in zip(coded, small, strict=True)
    ]


def _describe(
    parts: Sequence[Part],
    expected: Sequence[Expectation],
    model: Mapping[str, Any],
) -> Manifest:
    records = _place([part.record for part in parts])
    digest = hashlib.sha256()
    for piece in _payload(parts):
        digest.update(piece)
    return Manifest(
        tensors=records,
        payload_bytes=sum(record.stored_bytes for record in records),
        payload_sha256=digest.hexdigest(),
        model=model,
        generator=f"keras_squeeze {__version__}",
        requires=tuple(
            sorted({item.encoding for item in expected} & LATER_ENCODINGS)
        ),
    )


def _place(records: Sequence[TensorRecord]) -> tuple[TensorRecord, ...]:
    placed, offset = [], 0
    for record in records:
        placed.append(dataclasses.replace(record, offset=offset))
        offset += record.stored_bytes
    return tuple(placed)


def _payload(parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        yield from part.pieces()


def _file(
    parts: Sequence[Part], manifest: Manifest, keras_version: str, backend: str
) -> Iterator[bytes]:
    """The bytes of the whole file, piece by piece."""
    size = manifest.payload_bytes
    start = pack_stream_start(manifest.to_json(), size)
    yield skeleton_start(len(start) + size, keras_version, backend)
    yield start
    yield from _payload(parts)


def _write_file(
    path: str,
    pieces: Iterator[bytes],
    expected: Sequence[Expectation],
    access: Access,
) -> Artifact:
    written: list[Artifact] = []
    try:
        write_atomically(
            path,
            functools.partial(_write_pieces, pieces=pieces, key=access.key),
            lambda name: written.append(_read_back(name, expected, access)),
        )
    except BaseException:
        for artifact in written:
            artifact.close()
        raise
    return dataclasses.replace(written[0], path=path)


def _write_pieces(
    path: str, pieces: Iterator[bytes], key: bytes | str | None
) -> None:
    with open(path, "xb") as file:
        write_pieces(file, pieces, key)


def _read_back(
    path: str, expected: Sequence[Expectation], access: Access
) -> Artifact:
    with contextlib.ExitStack() as on_failure:
        artifact = read(path, access=access)
        on_failure.callback(artifact.close)
        decoded = artifact.iterate()
        for item, (record, array) in zip(expected, decoded, strict=True):
            found = (record.name, array.dtype.name, array.shape)
            if found != (item.name, item.dtype, item.shape) or (
                array_digest(array) != item.sha256
            ):
                raise CorruptArtifactError(
                    f"Expected the tensor {item.name!r} to decode to what was "
                    "encoded; nothing was written. Received: other values"
                )
        on_failure.pop_all()
        return artifact
