"""What a reader was told: limits, what vouches for the file, keys, the base."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import TYPE_CHECKING, Any, TypedDict

from keras_squeeze.artifact.limits import Limits, check_limit
from keras_squeeze.artifact.sources import BytesSource, FileSource, Source
from keras_squeeze.errors import DecryptionError, SignatureError

if TYPE_CHECKING:
    from keras_squeeze.artifact.opened import Artifact

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_LONGEST_MAGIC = 64

#: Files up to this size are read once and then parsed from memory.
SMALL_FILE_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Access:
    """How a file is to be opened, and what it is checked against first.

    Args:
        limits: `Limits`. Bounds on what the file may declare.
        expected_sha256: Optional string. SHA-256 of the whole file, in hex.
        public_key: Optional. Whose signature the file must carry; see
            `signing`.
        signature: Optional path of the signature. Defaults to the file's path
            followed by `.sig`.
        key: Optional 32 bytes, or a string, a passphrase. What an encrypted
            file is decrypted with.
        base: Optional path or `Artifact`. What a file that holds changes
            changes.
    """

    limits: Limits = dataclasses.field(default_factory=Limits)
    expected_sha256: str | None = None
    public_key: Any | None = None
    signature: str | os.PathLike[str] | None = None
    key: bytes | str | None = dataclasses.field(default=None, repr=False)
    base: str | os.PathLike[str] | Artifact | None = None

    @property
    def is_vouched(self) -> bool:
        """Whether the bytes are to be checked before they are parsed."""
        vouchers = (self.expected_sha256, self.public_key, self.signature)
        return any(voucher is not None for voucher in vouchers)

    def with_limits(self, limits: Limits) -> Access:
        """The same with other limits."""
        return dataclasses.replace(self, limits=limits)


class AccessOptions(TypedDict, total=False):
    """The fields of `Access` that the public functions take as keywords."""

    expected_sha256: str | None
    public_key: Any | None
    signature: str | os.PathLike[str] | None
    key: bytes | str | None
    base: str | os.PathLike[str] | Artifact | None


def make_access(limits: Limits | None, options: AccessOptions) -> Access:
    """An `Access` from what a public function was called with.

    Args:
        limits: Optional `Limits`. Defaults to `Limits()`.
        options: Mapping of `Access` field to value.

    Returns:
        An `Access`.
    """
    return Access(limits=limits or Limits(), **options)


def open_source(path: str | os.PathLike[str], access: Access) -> Source:
    """Opens a file and checks it as asked, before anything of it is parsed.

    The path is opened once. What a digest or a signature was checked over is
    held in memory and is what the caller gets.

    Args:
        path: Path of the file.
        access: An `Access` object.

    Returns:
        A `Source` of the file's bytes, decrypted if it is encrypted.

    Raises:
        OSError: If it cannot be opened.
        SignatureError: If the file is not what is vouched for.
        DecryptionError: If it is encrypted and the key is missing or wrong.
    """
    source: Source = FileSource(path)
    try:
        if access.is_vouched:
            most = access.limits.max_signed_bytes
            check_limit("a signed file in bytes", source.size, most)
        if access.is_vouched or source.size <= SMALL_FILE_BYTES:
            source = _in_memory(source)
        _check_sha256(source, access.expected_sha256)
        _check_signature(source, path, access)
        return _decrypted(source, access.key)
    except BaseException:
        source.close()
        raise


def _in_memory(source: Source) -> BytesSource:
    data = source.read(0, source.size)
    source.close()
    return BytesSource(data, source.name)


def _check_sha256(source: Source, expected: str | None) -> None:
    if expected is None:
        return
    received = hashlib.sha256(source.read(0, source.size)).hexdigest()
    if received != expected.strip().lower():
        raise SignatureError(
            f"Expected {source.name!r} to have SHA-256 {expected}. "
            f"Received: {received}"
        )


def _check_signature(
    source: Source, path: str | os.PathLike[str], access: Access
) -> None:
    signature = access.signature
    if access.public_key is None and signature is None:
        return
    if access.public_key is None:
        raise SignatureError(
            f"Expected a public key to check the signature of {source.name!r}. "
            f"Received: the signature {os.fspath(signature or '')!r} only"
        )
    from keras_squeeze.artifact import signing

    signing.check_signature(
        source.read(0, source.size),
        os.fspath(path) + ".sig" if signature is None else signature,
        access.public_key,
        source.name,
    )


def _decrypted(source: Source, key: bytes | str | None) -> Source:
    start = source.read(0, min(_LONGEST_MAGIC, source.size))
    if start.startswith(HDF5_MAGIC):
        return source
    from keras_squeeze.artifact import encryption

    if not start.startswith(encryption.MAGIC):
        return source
    if key is None:
        raise DecryptionError(
            f"Expected a key for {source.name!r}, which is encrypted; pass "
            "`key=`. Received: none"
        )
    return encryption.DecryptedSource(source, key)
