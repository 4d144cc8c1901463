"""Signatures of OpenSSF model-signing, made with a key.

That tool signs a list of files, each with its digest: an in-toto statement in
a DSSE envelope in a Sigstore bundle, usually named `model.sig`. Checked here:
that the key signed the list, and that the list holds the file as it is.
Bundles of identities ("keyless") and certificates need a trust root and are
left to that tool.

References:
    - [OpenSSF model signing](https://github.com/sigstore/model-transparency)
    - [DSSE protocol](
      https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_squeeze.artifact.optional_cryptography import needs_cryptography
from keras_squeeze.errors import SignatureError

_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# The name of the only file where a file and not a folder was signed.
_THE_FILE = "."
_HASHES = ("sha256", "blake2b")


def check_bundle(
    bundle: bytes, data: bytes, public_key: Any, name: str, where: str
) -> None:
    """Checks that a key signed a list which holds a file as it is.

    Args:
        bundle: Bytes. The bundle's JSON.
        data: Bytes. The whole file.
        public_key: `EllipticCurvePublicKey` on P-256, P-384 or P-521, or
            `Ed25519PublicKey`.
        name: String. The path of the file; its end must be the file's name
            in the list, unless a single file was signed.
        where: String. The bundle's path, for messages.

    Raises:
        SignatureError: If it is not so.
    """
    try:
        content = _parse(bundle)
        _check_material(content["verificationMaterial"], where)
        payload = _check_envelope(content["dsseEnvelope"], public_key, where)
        resources = _resources(_parse(payload), where)
        resource = _resource_of(resources, name, where)
        algorithm, digest = resource["algorithm"], resource["digest"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SignatureError):
            raise
        raise SignatureError(
            f"Expected an OpenSSF model-signing bundle at {where!r}. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    _check_digest(data, algorithm, digest, name, where)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error
    if not isinstance(content, dict):
        raise TypeError(f"a JSON {type(content).__name__}")
    return content


def _check_material(material: Mapping[str, Any], where: str) -> None:
    if "publicKey" not in material or material.get("tlogEntries"):
        raise SignatureError(
            f"Expected a bundle made with a key at {where!r}; check identities "
            "and certificates with `model_signing verify` and then pass "
            "`expected_sha256`. "
            f"Received: a bundle with {', '.join(sorted(material))}"
        )


def _check_envelope(
    envelope: Mapping[str, Any], public_key: Any, where: str
) -> bytes:
    """The signed payload."""
    if envelope["payloadType"] != _PAYLOAD_TYPE:
        raise SignatureError(
            f"Expected a payload of type {_PAYLOAD_TYPE} in {where!r}. "
            f"Received: {envelope['payloadType']!r}"
        )
    payload = _from_base64(envelope["payload"])
    (signature,) = envelope["signatures"]
    parts = (b"DSSEv1", _PAYLOAD_TYPE.encode(), payload)
    version, kind, body = parts
    signed = b"%s %d %s %d %s" % (version, len(kind), kind, len(body), body)
    _verify(public_key, _from_base64(signature["sig"]), signed, where)
    return payload


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error


def _verify(public_key: Any, signature: bytes, data: bytes, where: str) -> None:
    with needs_cryptography():
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    by_curve = {
        "secp256r1": hashes.SHA256(),
        "secp384r1": hashes.SHA384(),
        "secp521r1": hashes.SHA512(),
    }
    try:
        if isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(signature, data)
        elif public_key.curve.name in by_curve:
            algorithm = by_curve[public_key.curve.name]
            public_key.verify(signature, data, ec.ECDSA(algorithm))
        else:
            raise SignatureError(
                f"Expected a key on one of the curves {sorted(by_curve)}. "
                f"Received: {public_key.curve.name}"
            )
    except InvalidSignature:
        raise SignatureError(
            f"Expected a bundle that this key signed at {where!r}. "
            "Received: a signature by another key, or of another list"
        ) from None


def _resources(statement: Mapping[str, Any], where: str) -> list[Any]:
    """The signed list of files."""
    types = (statement["_type"], statement["predicateType"])
    predicate = statement["predicate"]
    method = predicate["serialization"]["method"]
    if types != (_STATEMENT_TYPE, _PREDICATE_TYPE) or method != "files":
        raise SignatureError(
            f"Expected a {_PREDICATE_TYPE} of whole files in {where!r}; check "
            "others with `model_signing verify`. "
            f"Received: {types[1]!r} of {method!r}"
        )
    resources: list[Any] = predicate["resources"]
    digests = [bytes.fromhex(resource["digest"]) for resource in resources]
    (subject,) = statement["subject"]
    received = hashlib.sha256(b"".join(digests)).hexdigest()
    if received != subject["digest"]["sha256"]:
        raise SignatureError(
            f"Expected a list with SHA-256 {subject['digest']['sha256']} in "
            f"{where!r}. Received: {received}"
        )
    return resources


def _resource_of(resources: list[Any], name: str, where: str) -> Any:
    """The entry of a file: the longest name that its path ends in."""
    if len(resources) == 1 and resources[0]["name"] == _THE_FILE:
        return resources[0]
    path = pathlib.Path(os.path.abspath(name)).as_posix()
    found = [item for item in resources if path.endswith(f"/{item['name']}")]
    if not found:
        raise SignatureError(
            f"Expected {name!r} among the {len(resources)} files that the "
            f"bundle {where!r} vouches for. Received: "
            f"{[item['name'] for item in resources[:5]]}"
        )
    return max(found, key=lambda item: len(item["name"]))


def _check_digest(
    data: bytes, algorithm: str, expected: str, name: str, where: str
) -> None:
    if algorithm not in _HASHES:
        raise SignatureError(
            f"Expected a digest by one of {_HASHES} in {where!r}; "
            f"check it with `model_signing verify`. Received: {algorithm!r}"
        )
    received = hashlib.new(algorithm, data).hexdigest()
    if received != expected:
        raise SignatureError(
            f"Expected {name!r} to have the {algorithm} {expected} that the "
            f"bundle {where!r} vouches for. Received: {received}"
        )
