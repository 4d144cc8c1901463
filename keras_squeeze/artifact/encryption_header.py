"""Keys of an encrypted file, and the header that tells how they are made.

All integers are one byte unless the table says otherwise.

| offset | size | field |
|---|---|---|
| 0 | 8 | magic, `89 4B 53 45 0D 0A 1A 0A` |
| 8 | 2 | envelope version, 1, little-endian |
| 10 | 1 | cipher: 1 is AES-256-GCM |
| 11 | 1 | where the key comes from: 0 a key of 32 bytes, 1 scrypt |
| 12 | 3 | scrypt's cost: log2 of N, r, p; all 0 for a key |
| 15 | 1 | log2 of the chunk's size in bytes |
| 16 | 32 | salt, random in every file |
| 48 | 32 | commitment to the key |

scrypt makes 32 bytes of a passphrase (UTF-8, NFC) and the salt. HKDF-SHA256
makes 64 of those or of the key, with the salt and, as `info`, the text
`keras_squeeze encrypted file` followed by bytes 0 to 47: the file's key, then
the commitment. Thus a changed header gives another key, and no file decrypts
under two keys, which AES-GCM alone would not rule out.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import struct
import unicodedata

from keras_squeeze.artifact.optional_cryptography import needs_cryptography
from keras_squeeze.errors import (
    DecryptionError,
    LimitExceededError,
    UnsupportedVersionError,
)

MAGIC = b"\x89KSE\r\n\x1a\n"
VERSION = 1
HEADER_BYTES = 80
KEY_BYTES = 32
_AES_256_GCM = 1
_RAW_KEY, _SCRYPT = 0, 1
_SALT_BYTES = 32
_INFO = b"keras_squeeze encrypted file"
_FIELDS = struct.Struct("<8sHBBBBBB32s")
# 128 MiB and about half a second; a reader goes along with twice that.
_LOG2_COST, _BLOCK, _PARALLEL = 17, 8, 1
_LOG2_COSTS = range(14, 19)
_PARALLELS = range(1, 5)
#: Chunks of 64 KiB: 16 bytes each are 0.02 % more file.
LOG2_CHUNK_BYTES = 16
_LOG2_CHUNKS = range(12, 25)


@dataclasses.dataclass(frozen=True)
class Secret:
    """A key or a passphrase; its value is in no representation.

    Args:
        value: Bytes. The key, or the passphrase in UTF-8.
        is_passphrase: Boolean.
    """

    value: bytes = dataclasses.field(repr=False)
    is_passphrase: bool


def parse_key(key: bytes | str) -> Secret:
    """Tells a key of 32 bytes from a passphrase.

    Args:
        key: Bytes, 32 random ones, or a string, a passphrase.

    Returns:
        A `Secret`.

    Raises:
        DecryptionError: If it is neither.

    Example:
    >>> parse_key("correct horse battery staple").is_passphrase
    True
    """
    if isinstance(key, str) and key:
        text = unicodedata.normalize("NFC", key)
        return Secret(text.encode("utf-8", "surrogatepass"), True)
    if isinstance(key, bytes | bytearray) and len(key) == KEY_BYTES:
        return Secret(bytes(key), False)
    size = f" of length {len(key)}" if isinstance(key, bytes | str) else ""
    raise DecryptionError(
        f"Expected a key of {KEY_BYTES} bytes, or a passphrase as a string "
        f"that is not empty. Received: {type(key).__name__}{size}"
    )


def read_key_file(path: str | os.PathLike[str]) -> bytes:
    """Reads a key of 32 bytes, stored as they are or as 64 hex digits.

    Args:
        path: Path of the key's file.

    Returns:
        Bytes, 32.

    Raises:
        DecryptionError: If the file holds anything else.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(4 * KEY_BYTES)
        return data if len(data) == KEY_BYTES else _from_hex(data)
    except (OSError, ValueError) as error:
        raise DecryptionError(
            f"Expected a key file with {KEY_BYTES} bytes or "
            f"{2 * KEY_BYTES} hexadecimal digits. Received: {path}, "
            f"{error.strerror if isinstance(error, OSError) else 'other data'}"
        ) from None


def _from_hex(data: bytes) -> bytes:
    key = bytes.fromhex(data.decode("ascii"))
    if len(key) != KEY_BYTES:
        raise ValueError(len(key))
    return key


@dataclasses.dataclass(frozen=True)
class EncryptionHeader:
    """What stands at the start of an encrypted file.

    Args:
        raw: Bytes. The header but the commitment.
        commitment: Bytes.
        from_passphrase: Boolean. Whether scrypt makes the key.
        cost: Tuple of integers. scrypt's N, r and p.
        salt: Bytes.
        chunk_bytes: Integer. Bytes of content in every chunk but the last.
    """

    raw: bytes
    commitment: bytes
    from_passphrase: bool
    cost: tuple[int, int, int]
    salt: bytes
    chunk_bytes: int

    def to_bytes(self) -> bytes:
        """The header as it stands in the file, and is authenticated."""
        return self.raw + self.commitment


def new_header(secret: Secret) -> tuple[EncryptionHeader, bytes]:
    """Makes the header of a new file.

    Args:
        secret: `Secret`.

    Returns:
        Pair of `EncryptionHeader` and the file's key.
    """
    cost = (_LOG2_COST, _BLOCK, _PARALLEL) if secret.is_passphrase else (0,) * 3
    kind = _SCRYPT if secret.is_passphrase else _RAW_KEY
    salt = secrets.token_bytes(_SALT_BYTES)
    raw = _FIELDS.pack(
        MAGIC, VERSION, _AES_256_GCM, kind, *cost, LOG2_CHUNK_BYTES, salt
    )
    header = parse_header(raw + bytes(32), "new file")
    key, commitment = derive(header, secret)
    return dataclasses.replace(header, commitment=commitment), key


def parse_header(data: bytes, name: str) -> EncryptionHeader:
    """Reads a header and refuses costs beyond what a reader goes along with.

    Args:
        data: Bytes. The first `HEADER_BYTES` of the file.
        name: String. The file, for messages.

    Returns:
        An `EncryptionHeader`, of which nothing is authenticated yet.

    Raises:
        DecryptionError: If it is no header.
        UnsupportedVersionError: If a newer version wrote it.
        LimitExceededError: If it asks for too much work or memory.
    """
    if len(data) != HEADER_BYTES or data[: len(MAGIC)] != MAGIC:
        raise DecryptionError(
            f"Expected an encrypted file with a header of {HEADER_BYTES} bytes "
            f"at {name!r}. Received: {bytes(data[:8])!r}, {len(data)} bytes"
        )
    _, version, cipher, kind, log2_cost, block, parallel, log2_chunk, salt = (
        _FIELDS.unpack_from(data)
    )
    known = kind in (_RAW_KEY, _SCRYPT) and cipher == _AES_256_GCM
    if version != VERSION or not known:
        raise UnsupportedVersionError(
            f"Expected encryption version {VERSION} with cipher "
            f"{_AES_256_GCM} in {name!r}; a newer keras_squeeze may read it. "
            f"Received: version {version}, cipher {cipher}, key from {kind}"
        )
    cost = (log2_cost, block, parallel)
    if not _is_bounded(kind, cost) or log2_chunk not in _LOG2_CHUNKS:
        raise LimitExceededError(
            f"Expected scrypt with log2(N) from {_LOG2_COSTS[0]} to "
            f"{_LOG2_COSTS[-1]}, r = {_BLOCK}, p up to {_PARALLELS[-1]}, and "
            f"chunks of 2**{_LOG2_CHUNKS[0]} to 2**{_LOG2_CHUNKS[-1]} bytes in "
            f"{name!r}. Received: log2(N), r, p = {cost}, chunks of "
            f"2**{log2_chunk} bytes"
        )
    return EncryptionHeader(
        raw=bytes(data[: _FIELDS.size]),
        commitment=bytes(data[_FIELDS.size :]),
        from_passphrase=kind == _SCRYPT,
        cost=(1 << log2_cost, block, parallel),
        salt=salt,
        chunk_bytes=1 << log2_chunk,
    )


def _is_bounded(kind: int, cost: tuple[int, int, int]) -> bool:
    if kind == _RAW_KEY:
        return cost == (0, 0, 0)
    log2_cost, block, parallel = cost
    return (
        log2_cost in _LOG2_COSTS and block == _BLOCK and parallel in _PARALLELS
    )


def derive(header: EncryptionHeader, secret: Secret) -> tuple[bytes, bytes]:
    """Makes a file's key.

    Args:
        header: `EncryptionHeader`.
        secret: `Secret`.

    Returns:
        Pair of bytes, 32 each: the file's key and the commitment to it.

    Raises:
        SqueezeError: If `cryptography` is not installed.
    """
    with needs_cryptography():
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    material = secret.value
    if secret.is_passphrase:
        cost, block, parallel = header.cost
        scrypt = Scrypt(header.salt, KEY_BYTES, cost, block, parallel)
        material = scrypt.derive(material)
    info = _INFO + header.raw
    expand = HKDF(hashes.SHA256(), 2 * KEY_BYTES, header.salt, info)
    keys: bytes = expand.derive(material)
    return keys[:KEY_BYTES], keys[KEY_BYTES:]
