"""A whole file encrypted: a header, then chunks that authenticate each other.

The content is cut into chunks of equal size, the last one shorter or equal.
Each is AES-256-GCM under the file's key with the header as associated data;
its nonce is its number (11 bytes, big-endian) followed by 1 for the last chunk
and 0 for the others. So no chunk can be changed, moved, left out, added or
taken from another file, and a file cut at the end of a chunk has no last one.

References:
    - [Hoang, Reyhanitabar, Rogaway and Vizar, Online Authenticated-Encryption
      and its Nonce-Reuse Misuse-Resistance](https://eprint.iacr.org/2015/189)
"""

from __future__ import annotations

import hmac
import os
from typing import Any, BinaryIO

from keras_squeeze.artifact.encryption_header import (
    HEADER_BYTES,
    MAGIC,
    EncryptionHeader,
    derive,
    new_header,
    parse_header,
    parse_key,
    read_key_file,
)
from keras_squeeze.artifact.optional_cryptography import needs_cryptography
from keras_squeeze.artifact.sources import Source
from keras_squeeze.errors import DecryptionError

__all__ = [
    "MAGIC",
    "DecryptedSource",
    "EncryptedWriter",
    "encrypt_file",
    "parse_key",
    "read_key_file",
]

_TAG_BYTES = 16
_COPY_BYTES = 1 << 20


class EncryptedWriter:
    """Encrypts what is written to it; holds one chunk in memory.

    Nothing is whole before `close()`; without it the file cannot be read.

    Args:
        file: Binary file open for writing. It is not closed.
        key: Bytes, a key of 32, or a string, a passphrase.

    Raises:
        DecryptionError: If `key` is neither.
        SqueezeError: If `cryptography` is not installed.
    """

    def __init__(self, file: BinaryIO, key: bytes | str) -> None:
        header, file_key = new_header(parse_key(key))
        self._file = file
        self._header = header.to_bytes()
        self._chunk_bytes = header.chunk_bytes
        self._cipher = _cipher(file_key)
        self._pending = bytearray()
        self._chunks = 0
        file.write(self._header)

    def write(self, data: bytes | memoryview) -> int:
        """Adds to the content."""
        view = memoryview(data)
        for start in range(0, len(view), _COPY_BYTES):
            self._pending += view[start : start + _COPY_BYTES]
            # One chunk is held back: the last one is marked as such.
            while len(self._pending) > self._chunk_bytes:
                self._flush(last=False)
        return len(view)

    def close(self) -> None:
        """Writes the last chunk."""
        self._flush(last=True)

    def _flush(self, last: bool) -> None:
        content = bytes(self._pending[: self._chunk_bytes])
        del self._pending[: self._chunk_bytes]
        nonce = _nonce(self._chunks, last)
        self._file.write(self._cipher.encrypt(nonce, content, self._header))
        self._chunks += 1


def encrypt_file(
    source_path: str | os.PathLike[str],
    target_path: str | os.PathLike[str],
    key: bytes | str,
) -> None:
    """Encrypts a file into another one, a chunk at a time.

    Args:
        source_path: Path of the file to encrypt.
        target_path: Path of a new file; removed again if anything fails.
        key: Bytes, a key of 32, or a string, a passphrase.

    Raises:
        DecryptionError: If `key` is neither.
        SqueezeError: If `cryptography` is not installed.
        OSError: If a file cannot be read or written, or the target exists.
    """
    with open(source_path, "rb") as source:
        target = open(target_path, "xb")  # noqa: SIM115
        try:
            with target:
                writer = EncryptedWriter(target, key)
                while data := source.read(_COPY_BYTES):
                    writer.write(data)
                writer.close()
        except BaseException:
            os.unlink(target_path)
            raise


class DecryptedSource:
    """The content of an encrypted file, decrypted where it is read.

    Opening it checks the key and the last chunk, so that `size` is authentic;
    every chunk is authenticated before a byte of it is given out.

    Args:
        source: `artifact.sources.Source` of the encrypted file.
        key: Bytes, a key of 32, or a string, a passphrase.

    Raises:
        DecryptionError: If the key is missing or wrong, or the file was
            changed or cut.
        LimitExceededError: If its header asks for too much work.
        UnsupportedVersionError: If a newer version wrote it.
    """

    def __init__(self, source: Source, key: bytes | str | None) -> None:
        self.name = source.name
        self._source = source
        start = source.read(0, min(HEADER_BYTES, source.size))
        header = parse_header(start, self.name)
        self._header = start
        self._chunk_bytes = header.chunk_bytes
        self._chunks, self.size = _layout(source.size, header, self.name)
        self._cipher = _cipher(_unlock(header, key, self.name))
        self._cached: tuple[int, bytes] = (-1, b"")
        self._chunk(self._chunks - 1)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of the content.

        Raises:
            DecryptionError: If a chunk was changed, or the content ends
                before `stop`.
        """
        if not 0 <= start <= stop <= self.size:
            raise DecryptionError(
                f"Expected a range of the {self.size} bytes encrypted in "
                f"{self.name!r}. Received: {start} to {stop}"
            )
        if start == stop:
            return b""
        first, last = (
            start // self._chunk_bytes,
            (stop - 1) // self._chunk_bytes,
        )
        chunks = [self._chunk(number) for number in range(first, last + 1)]
        chunks[-1] = chunks[-1][: stop - last * self._chunk_bytes]
        chunks[0] = chunks[0][start - first * self._chunk_bytes :]
        return b"".join(chunks)

    def close(self) -> None:
        """Closes the encrypted file."""
        self._source.close()

    def __enter__(self) -> DecryptedSource:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _chunk(self, number: int) -> bytes:
        if self._cached[0] == number:
            return self._cached[1]
        from cryptography.exceptions import InvalidTag

        stored = self._chunk_bytes + _TAG_BYTES
        start = HEADER_BYTES + number * stored
        data = self._source.read(start, min(start + stored, self._source.size))
        nonce = _nonce(number, number == self._chunks - 1)
        try:
            content: bytes = self._cipher.decrypt(nonce, data, self._header)
        except InvalidTag:
            raise DecryptionError(
                f"Expected {self.name!r} as it was encrypted; it was changed, "
                f"cut or extended. Received: chunk {number} of {self._chunks}, "
                "which is not authentic"
            ) from None
        self._cached = (number, content)
        return content


def _layout(
    file_bytes: int, header: EncryptionHeader, name: str
) -> tuple[int, int]:
    """Number of chunks and bytes of content, by the file's size alone."""
    body = file_bytes - HEADER_BYTES
    chunks = max(1, -(-body // (header.chunk_bytes + _TAG_BYTES)))
    size = body - chunks * _TAG_BYTES
    # Only a file without content has a last chunk that is empty.
    if size < 0 or (chunks > 1 and size <= (chunks - 1) * header.chunk_bytes):
        raise DecryptionError(
            f"Expected whole chunks in {name!r}; it was cut or extended. "
            f"Received: {file_bytes} bytes"
        )
    return chunks, size


def _unlock(
    header: EncryptionHeader, key: bytes | str | None, name: str
) -> bytes:
    if key is None:
        what = "passphrase" if header.from_passphrase else "key"
        raise DecryptionError(
            f"Expected the {what} of {name!r}, which is encrypted: pass "
            "`key=`. Received: none"
        )
    secret = parse_key(key)
    if secret.is_passphrase != header.from_passphrase:
        expected, received = ("a passphrase (string)", "a key (bytes)")
        if secret.is_passphrase:
            expected, received = received, expected
        raise DecryptionError(
            f"Expected {expected} for {name!r}. Received: {received}"
        )
    file_key, commitment = derive(header, secret)
    if not hmac.compare_digest(commitment, header.commitment):
        raise DecryptionError(
            f"Expected the key that {name!r} was encrypted with. "
            "Received: another one, or a file whose header was changed"
        )
    return file_key


def _cipher(file_key: bytes) -> Any:
    with needs_cryptography():
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    return AESGCM(file_key)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
