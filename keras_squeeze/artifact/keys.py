"""Keys of signatures: made, read and recognized."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from keras_squeeze.artifact.optional_cryptography import needs_cryptography
from keras_squeeze.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
    )

#: A PEM file's path, its content, or a key of the package `cryptography`.
KeyLike = str | bytes | os.PathLike[str] | Any
_MAX_PEM_BYTES = 1 << 16


def generate_keys(
    private_path: str | os.PathLike[str],
    public_path: str | os.PathLike[str],
    password: bytes | None = None,
) -> None:
    """Makes an Ed25519 key pair, two new PEM files.

    Args:
        private_path: Path of the private key's file, PKCS #8, readable by its
            owner alone.
        public_path: Path of the public key's file, to be given to others.
        password: Optional bytes that encrypt the private key's file.

    Raises:
        SignatureError: If a file cannot be written or exists; nothing is
            left then that was not there.
        SqueezeError: If `cryptography` is not installed.
    """
    with needs_cryptography():
        from cryptography.hazmat.primitives import serialization as forms
        from cryptography.hazmat.primitives.asymmetric import ed25519
    key = ed25519.Ed25519PrivateKey.generate()
    encryption = (
        forms.BestAvailableEncryption(password)
        if password
        else forms.NoEncryption()
    )
    pem = forms.Encoding.PEM
    private = key.private_bytes(pem, forms.PrivateFormat.PKCS8, encryption)
    subject = forms.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(pem, subject)
    _write_new(private_path, private, 0o600)
    try:
        _write_new(public_path, public, 0o644)
    except SignatureError:
        os.unlink(private_path)
        raise


def _write_new(path: str | os.PathLike[str], data: bytes, mode: int) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        descriptor = os.open(path, flags, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
        except OSError:
            os.unlink(path)
            raise
    except OSError as error:
        raise SignatureError(
            f"Expected to make a new file for a key at {os.fspath(path)!r}; "
            f"existing ones are kept. Received: {error.strerror}"
        ) from error


def load_private_key(
    key: KeyLike, password: bytes | None = None
) -> Ed25519PrivateKey:
    """Reads the key that signs.

    Args:
        key: Path of a PEM file, its bytes, or an `Ed25519PrivateKey`.
        password: Optional bytes, where the PEM file is encrypted.

    Returns:
        An `Ed25519PrivateKey`.

    Raises:
        SignatureError: If it is no Ed25519 private key.
    """
    with needs_cryptography():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    if _is_pem(key):
        try:
            key = serialization.load_pem_private_key(_pem(key), password)
        # Keys of kinds it does not know, wrong passwords and other files.
        except Exception as error:
            raise _no_key("private", error) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _no_key("private", type(key).__name__)
    return key


def load_public_key(key: KeyLike) -> Any:
    """Reads the key that a signature is checked with.

    Args:
        key: Path of a PEM file, its bytes, an `Ed25519PublicKey`, or, for
            bundles, an `EllipticCurvePublicKey`.

    Returns:
        A public key of the package `cryptography`.

    Raises:
        SignatureError: If it is none of these.
    """
    with needs_cryptography():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    if _is_pem(key):
        try:
            key = serialization.load_pem_public_key(_pem(key))
        except Exception as error:
            raise _no_key("public", error) from error
    if not isinstance(
        key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
    ):
        raise _no_key("public", type(key).__name__)
    return key


def _is_pem(key: KeyLike) -> bool:
    return isinstance(key, str | bytes | os.PathLike)


def _pem(key: str | bytes | os.PathLike[str]) -> bytes:
    if isinstance(key, bytes):
        return key
    with open(key, "rb") as file:
        return file.read(_MAX_PEM_BYTES)


def _no_key(kind: str, received: object) -> SignatureError:
    return SignatureError(
        f"Expected the path or bytes of a PEM file with a {kind} Ed25519 key, "
        "or such a key of the package `cryptography`. "
        f"Received: {' '.join(str(received).split())}"
    )
