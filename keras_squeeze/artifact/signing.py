r"""Detached signatures: Ed25519 over exactly the bytes of a file.

`FILE.sig` is the 64 bytes of the signature and nothing else, as other tools
make and check it:

    openssl pkeyutl -verify -pubin -inkey public.pem \
        -rawin -in FILE -sigfile FILE.sig

References:
    - [RFC 8032, Edwards-Curve Digital Signature Algorithm](
      https://www.rfc-editor.org/rfc/rfc8032)
"""

from __future__ import annotations

import os

from keras_squeeze.artifact.keys import (
    KeyLike,
    generate_keys,
    load_private_key,
    load_public_key,
)
from keras_squeeze.artifact.openssf_bundle import check_bundle
from keras_squeeze.artifact.sources import FileSource
from keras_squeeze.artifact.writing import check_not_empty, write_atomically
from keras_squeeze.errors import ArtifactError, SignatureError

__all__ = [
    "SUFFIX",
    "check_signature",
    "generate_keys",
    "load_private_key",
    "load_public_key",
    "sign",
]

SUFFIX = ".sig"
SIGNATURE_BYTES = 64
_MAX_BUNDLE_BYTES = 16 << 20


def sign(
    path: str | os.PathLike[str],
    private_key: KeyLike,
    signature: str | os.PathLike[str] | None = None,
    password: bytes | None = None,
) -> str:
    """Signs a file as it lies on the disk.

    Args:
        path: Path of the file.
        private_key: Path of a PEM file, its bytes, or an `Ed25519PrivateKey`.
        signature: Optional path of the signature. Defaults to `None`, the
            file's path followed by `.sig`.
        password: Optional bytes, where the PEM file is encrypted.

    Returns:
        String. The signature's path.

    Raises:
        SignatureError: If the key is none, or a file cannot be read or
            written.
        SqueezeError: If `cryptography` is not installed.

    Example:
    >>> import os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> private, public, path = (
    ...     os.path.join(folder, name) for name in ("a.pem", "b.pem", "m.h5")
    ... )
    >>> generate_keys(private, public)
    >>> _ = open(path, "wb").write(b"content")
    >>> check_signature(b"content", sign(path, private), public, path)
    """
    key = load_private_key(private_key, password)
    target = os.fspath(signature or f"{os.fspath(path)}{SUFFIX}")
    try:
        with open(path, "rb") as file:
            data = file.read()
        _write(target, key.sign(data))
    except (OSError, ArtifactError) as error:
        raise SignatureError(
            f"Expected to read {os.fspath(path)!r} and to write {target!r}. "
            f"Received: {error.__cause__ or error}"
        ) from error
    return target


def _write(path: str, signature: bytes) -> None:
    # A reader meets the former signature or the new one, never a part of it.
    def write(temporary: str) -> None:
        with open(temporary, "xb") as file:
            file.write(signature)

    write_atomically(path, write, verify=check_not_empty)


def check_signature(
    data: bytes,
    signature_path: str | os.PathLike[str],
    public_key: KeyLike,
    name: str,
) -> None:
    """Checks who vouches for a file, before anything of it is parsed.

    Args:
        data: Bytes. The whole file, encrypted if it is.
        signature_path: Path of a signature that `sign` wrote, or of an
            OpenSSF model-signing bundle.
        public_key: Path of a PEM file, its bytes, or a public key of the
            package `cryptography`.
        name: String. The path of the file.

    Raises:
        SignatureError: If there is no signature, or it is another key's or
            another file's.
        SqueezeError: If `cryptography` is not installed.
    """
    key = load_public_key(public_key)
    signature = _read(signature_path, name)
    if len(signature) != SIGNATURE_BYTES and signature.lstrip()[:1] == b"{":
        check_bundle(signature, data, key, name, os.fspath(signature_path))
        return
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise SignatureError(
            f"Expected an Ed25519 public key for the signature of {name!r}; "
            "other kinds are for OpenSSF bundles. "
            f"Received: {type(key).__name__}"
        )
    try:
        key.verify(signature, data)
    except InvalidSignature:
        raise SignatureError(
            f"Expected {os.fspath(signature_path)!r} to be the signature of "
            f"{name!r} by this key. Received: {len(signature)} bytes, which "
            "are not; the file, the signature or the key is another one"
        ) from None


def _read(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        with FileSource(path) as file:
            size = min(file.size, _MAX_BUNDLE_BYTES + 1)
            data = file.read(0, size)
    except (OSError, ArtifactError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SignatureError(
            f"Expected a signature of {name!r} at {os.fspath(path)!r}, because "
            f"a public key was given. Received: {reason}"
        ) from error
    if len(data) > _MAX_BUNDLE_BYTES:
        raise SignatureError(
            f"Expected a signature of at most {_MAX_BUNDLE_BYTES} bytes at "
            f"{os.fspath(path)!r}. Received: a larger file"
        )
    return data
