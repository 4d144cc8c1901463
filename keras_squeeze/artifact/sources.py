"""Where the bytes of an artifact come from: a file, memory, a part of either.

A file is opened once and read through that descriptor only: what was checked
is what is read, whatever happens to the path meanwhile.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from typing import Protocol

from keras_squeeze.errors import CorruptArtifactError, NotAnArtifactError

_MOST_AT_ONCE = 64 << 20


class Source(Protocol):
    """Bytes that can be read range by range, from several threads at once."""

    @property
    def name(self) -> str:
        """What messages call it: the path of the file."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, start: int, stop: int) -> bytes:
        """Exactly the bytes from `start` to `stop`.

        Raises:
            CorruptArtifactError: If they are not there.
        """

    def close(self) -> None:
        """Gives back what is held; nothing can be read afterwards."""


class BytesSource:
    """Bytes in memory.

    Args:
        data: Bytes.
        name: String. What messages call it.

    Example:
    >>> BytesSource(b"abcdef", "letters").read(2, 4)
    b'cd'
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.size = len(data)
        self._data = data

    def read(self, start: int, stop: int) -> bytes:
        """Exactly the bytes from `start` to `stop`."""
        check_range(self, start, stop)
        return self._data[start:stop]

    def close(self) -> None:
        """Lets the bytes go."""
        self._data = b""
        self.size = 0


class FileSource:
    """A regular file, opened once.

    Args:
        path: Path of the file. Anything but a regular file is refused after
            it was opened without waiting, so that a pipe cannot block.

    Raises:
        OSError: If it cannot be opened.
        NotAnArtifactError: If it is not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._descriptor: int | None = None
        self.name = os.fspath(path)
        flags = os.O_RDONLY
        for wanted in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
            flags |= getattr(os, wanted, 0)
        self._descriptor = os.open(path, flags)
        self._lock = threading.Lock()
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise NotAnArtifactError(
                f"Expected a regular file at {self.name!r}. "
                f"Received: {_kind(status.st_mode)}"
            )
        self.size = status.st_size

    def read(self, start: int, stop: int) -> bytes:
        """Exactly the bytes from `start` to `stop`."""
        check_range(self, start, stop)
        pieces = []
        while start < stop:
            piece = self._read_at(start, min(stop - start, _MOST_AT_ONCE))
            if not piece:
                raise CorruptArtifactError(
                    f"Expected {self.size} bytes in {self.name!r}, as when it "
                    f"was opened. Received: {start} bytes"
                )
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_at(self, start: int, count: int) -> bytes:
        if self._descriptor is None:
            raise ValueError(f"I/O operation on closed file {self.name!r}")
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, count, start)
        with self._lock:  # Windows has no read at a place.
            os.lseek(self._descriptor, start, os.SEEK_SET)
            return os.read(self._descriptor, count)

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class SectionSource:
    """A part of another source, which it closes when it is closed.

    Args:
        source: A `Source`.
        start: Integer. Where the part begins.
        stop: Integer. Where it ends.

    Example:
    >>> SectionSource(BytesSource(b"abcdef", "letters"), 2, 5).read(0, 2)
    b'cd'
    """

    def __init__(self, source: Source, start: int, stop: int) -> None:
        check_range(source, start, stop)
        self.name = source.name
        self.size = stop - start
        self._source = source
        self._start = start

    def read(self, start: int, stop: int) -> bytes:
        """Exactly the bytes from `start` to `stop` of the part."""
        check_range(self, start, stop)
        return self._source.read(self._start + start, self._start + stop)

    def close(self) -> None:
        """Closes the source it is a part of."""
        self._source.close()


def check_range(source: Source, start: int, stop: int) -> None:
    """Raises `CorruptArtifactError` if a range is not within a source."""
    if not 0 <= start <= stop <= source.size:
        raise CorruptArtifactError(
            f"Expected the bytes {start} to {stop} in {source.name!r}. "
            f"Received: {source.size} bytes"
        )


def chunks(source: Source, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of a source in pieces of at most `chunk_bytes`."""
    for start in range(0, source.size, chunk_bytes):
        yield source.read(start, min(start + chunk_bytes, source.size))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
