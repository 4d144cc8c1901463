"""`.keras` archives: their config and their weights, read without Keras."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from keras_squeeze.bridges.hdf5_files import (
    WeightStore,
    check_size,
    open_store,
)
from keras_squeeze.errors import (
    CorruptArtifactError,
    LimitExceededError,
    NotAnArtifactError,
    UnsupportedModelError,
)

WEIGHTS = "model.weights.h5"
_CONFIG = "config.json"
_METADATA = "metadata.json"
_MAX_JSON_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20
# What is unpacked is held in memory up to this size, then in a nameless file.
_MEMORY_BYTES = 32 << 20


class KerasArchive:
    """An open `.keras` archive.

    Args:
        archive: `zipfile.ZipFile`.
        path: String. For messages.
    """

    def __init__(self, archive: zipfile.ZipFile, path: str) -> None:
        self._archive = archive
        self._path = path

    def other_members(self) -> list[str]:
        """Names of members that are neither config nor weights."""
        known = {_CONFIG, _METADATA, WEIGHTS}
        return sorted(set(self._archive.namelist()) - known)

    def read_config(self) -> dict[str, Any]:
        """The model's config, as Keras serialized it.

        Raises:
            UnsupportedModelError: If the archive holds state that is neither
                in the config nor in the weights.
            CorruptArtifactError: If it is no JSON object.
        """
        others = self.other_members()
        if others:
            raise UnsupportedModelError(
                "Expected an archive of a config and weights; what layers "
                "keep in files of their own only the live model can read. "
                f"Received: {self._path!r} with {others[:5]}"
            )
        return self._read_json(_CONFIG)

    def read_keras_version(self) -> str:
        """The version of Keras that wrote it, `"unknown"` if it is not said."""
        if _METADATA not in self._archive.namelist():
            return "unknown"
        return str(self._read_json(_METADATA).get("keras_version", "unknown"))

    @contextlib.contextmanager
    def open_weights(self) -> Iterator[WeightStore]:
        """The weights, each array read when it is asked for.

        Yields:
            `WeightStore`.

        Raises:
            ArtifactError: If they are damaged, foreign or unsafe.
        """
        member, where = self._member(WEIGHTS), f"{self._path}!{WEIGHTS}"
        check_size(member.file_size, member.compress_size, where)
        with (
            self._unpacked(member) as file,
            open_store(file, where, member.file_size) as store,
        ):
            yield store

    def _member(self, name: str) -> zipfile.ZipInfo:
        names = self._archive.namelist()
        if name not in names:
            raise NotAnArtifactError(
                f"Expected a `.keras` archive with a member {name!r}, "
                f"not in shards. Received: {self._path} with {names[:20]}"
            )
        return self._archive.getinfo(name)

    def _read_json(self, name: str) -> dict[str, Any]:
        member = self._member(name)
        if member.file_size > _MAX_JSON_BYTES:
            raise LimitExceededError(
                f"Expected {name} of at most {_MAX_JSON_BYTES:,} bytes in "
                f"{self._path!r}. Received: {member.file_size:,}"
            )
        try:
            with _as_corrupt(self._path):
                content = json.loads(self._archive.read(member))
        except (ValueError, RecursionError) as error:
            if isinstance(error, CorruptArtifactError):
                raise
            content = str(error)
        if not isinstance(content, dict):
            raise CorruptArtifactError(
                f"Expected a JSON object in {name} of {self._path!r}. "
                f"Received: {str(content)[:200]}"
            )
        return content

    @contextlib.contextmanager
    def _unpacked(self, member: zipfile.ZipInfo) -> Iterator[BinaryIO]:
        # HDF5 jumps to and fro, which costs a ZIP member a new beginning each
        # time; copying it checks its CRC-32, too.
        folder = os.path.dirname(os.path.abspath(self._path))
        with contextlib.ExitStack() as opened:
            if member.file_size <= _MEMORY_BYTES:
                copy: Any = opened.enter_context(io.BytesIO())
            else:
                folder = folder if os.access(folder, os.W_OK) else ""
                copy = opened.enter_context(
                    tempfile.TemporaryFile(dir=folder or None)
                )
            with _as_corrupt(f"{self._path}!{member.filename}"):
                source = opened.enter_context(self._archive.open(member))
                while piece := source.read(_PIECE_BYTES):
                    copy.write(piece)
            copy.seek(0)
            yield copy


@contextlib.contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[KerasArchive]:
    """Opens a `.keras` archive.

    Args:
        path: Path of the file.

    Yields:
        `KerasArchive`.

    Raises:
        CorruptArtifactError: If it is no readable ZIP archive.
    """
    with contextlib.ExitStack() as opened:
        with _as_corrupt(os.fspath(path)):
            archive = opened.enter_context(zipfile.ZipFile(path))
        yield KerasArchive(archive, os.fspath(path))


@contextlib.contextmanager
def _as_corrupt(where: str) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise CorruptArtifactError(
            f"Expected a readable `.keras` archive: {error}. Received: {where}"
        ) from error
