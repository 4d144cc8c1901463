"""Bundles of OpenSSF model-signing, made by that tool and changed here.

`golden/openssf` holds bundles that `model_signing` 1.1.1 made with throw-away
keys: `model_signing sign key` of `models/v1/m.h5` and of the folder `models`.
"""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from keras_squeeze.artifact.openssf_bundle import check_bundle
from keras_squeeze.artifact.signing import check_signature, load_public_key
from keras_squeeze.errors import SignatureError

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

GOLDEN = Path(__file__).parent / "golden" / "openssf"
FILES = {
    "models/README.md": b"text",
    "models/v1/m.h5": b"first",
    "models/v2/m.h5": b"second",
}
FIRST = "models/v1/m.h5"


def check(bundle, key, path, data=None):
    data = FILES[path] if data is None else data
    check_signature(data, GOLDEN / bundle, GOLDEN / key, path)


@pytest.mark.parametrize("curve", ["p256", "p521"])
def test_a_signed_file_passes_under_any_name(curve):
    check(f"file_{curve}.sig", f"{curve}.pub", FIRST)
    check(f"file_{curve}.sig", f"{curve}.pub", "renamed.h5", b"first")
    with pytest.raises(SignatureError, match="to have the sha256"):
        check(f"file_{curve}.sig", f"{curve}.pub", FIRST, b"First")


@pytest.mark.parametrize(
    ("bundle", "key"),
    [("folder_p384.sig", "p384.pub"), ("folder_blake2.sig", "p256.pub")],
)
def test_every_file_of_a_signed_folder_passes(bundle, key):
    for path in FILES:
        check(bundle, key, path)


@pytest.mark.parametrize("path", ["models/v1/m.h5", "models/v2/m.h5"])
def test_files_of_a_folder_cannot_take_each_others_place(path):
    other = FILES["models/v2/m.h5" if "v1" in path else "models/v1/m.h5"]
    with pytest.raises(SignatureError, match="to have the sha256"):
        check("folder_p384.sig", "p384.pub", path, other)
    with pytest.raises(SignatureError, match="among the 3 files"):
        check("folder_p384.sig", "p384.pub", "models/v3/m.h5", other)


def test_the_key_must_be_the_one_that_signed():
    with pytest.raises(SignatureError, match="that this key signed"):
        check("file_p521.sig", "p256.pub", FIRST)
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    with pytest.raises(SignatureError, match="that this key signed"):
        check_signature(b"first", GOLDEN / "file_p256.sig", key, FIRST)
    curve = ec.generate_private_key(ec.SECP256K1()).public_key()
    with pytest.raises(SignatureError, match="curves"):
        check_signature(b"first", GOLDEN / "file_p256.sig", curve, FIRST)


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        ("certificate.sig", "model_signing verify"),
        ("shards.sig", "of whole files"),
        ("folder_blake3.sig", "blake3"),
    ],
)
def test_what_that_tool_must_verify_is_refused(bundle, message):
    with pytest.raises(SignatureError, match=message):
        check(bundle, "p256.pub", FIRST)


def resources_of(files, algorithm="sha256"):
    return [
        {
            "name": name,
            "algorithm": algorithm,
            "digest": hashlib.sha256(data).hexdigest(),
        }
        for name, data in files.items()
    ]


def statement_of(files):
    resources = resources_of(files)
    digests = [bytes.fromhex(item["digest"]) for item in resources]
    root = hashlib.sha256(b"".join(digests)).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "models", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files"},
            "resources": resources,
        },
    }


def encoded(data):
    return base64.b64encode(data).decode()


def bundle_of(statement, key, payload_type="application/vnd.in-toto+json"):
    payload = json.dumps(statement).encode()
    head = f"DSSEv1 {len(payload_type)} {payload_type} {len(payload)} "
    signed = head.encode() + payload
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(signed)
    else:
        signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return {
        "verificationMaterial": {"publicKey": {}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": encoded(payload),
            "payloadType": payload_type,
            "signatures": [{"sig": encoded(signature), "keyid": ""}],
        },
    }


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


def check_content(bundle, key, path=FIRST, data=b"first"):
    raw = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    check_bundle(raw, data, key.public_key(), path, "model.sig")


def test_bundles_made_here_pass_as_those_of_the_tool_do(key):
    check_content(bundle_of(statement_of({".": b"first"}), key), key)
    check_content(bundle_of(statement_of({"v1/m.h5": b"first"}), key), key)
    other = ed25519.Ed25519PrivateKey.generate()
    check_content(bundle_of(statement_of({".": b"first"}), other), other)


def set_in(content, path, value):
    *parents, last = path
    for name in parents:
        content = content[name]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["_type"], "https://in-toto.io/Statement/v0.1"),
        (["predicateType"], "https://slsa.dev/provenance/v1"),
        (["predicateType"], None),
        (["subject"], []),
        (["subject", 0, "digest", "sha256"], "00" * 32),
        (["predicate"], None),
        (["predicate", "serialization", "method"], "shards"),
        (["predicate", "resources"], []),
        (["predicate", "resources"], resources_of({".": b"first"}, "md5")),
        (["predicate", "resources"], resources_of({"other.h5": b"first"})),
        (["predicate", "resources", 0, "digest"], "no hex"),
        (["predicate", "resources", 0, "digest"], 7),
        (["predicate", "resources", 0, "name"], "1/m.h5"),
        (["predicate", "resources", 0, "name"], "models/v1/m.h5/"),
    ],
)
def test_signed_statements_that_say_something_else_are_refused(
    key, path, value
):
    statement = statement_of({"v1/m.h5": b"first"})
    set_in(statement, path, value)
    with pytest.raises(SignatureError, match="Received"):
        check_content(bundle_of(statement, key), key)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["verificationMaterial"], {}),
        (["verificationMaterial"], {"certificate": {"rawBytes": ""}}),
        (["verificationMaterial", "tlogEntries"], [{"logIndex": "1"}]),
        (["dsseEnvelope", "payloadType"], "text/plain"),
        (["dsseEnvelope", "payload"], encoded(b"{}")),
        (["dsseEnvelope", "payload"], "no base64!"),
        (["dsseEnvelope", "payload"], None),
        (["dsseEnvelope", "signatures"], []),
        (["dsseEnvelope", "signatures"], [{"sig": ""}]),
        (["dsseEnvelope", "signatures"], [{"sig": ""}, {"sig": ""}]),
        (["dsseEnvelope"], []),
    ],
)
def test_changed_bundles_are_refused(key, path, value):
    bundle = bundle_of(statement_of({"v1/m.h5": b"first"}), key)
    set_in(bundle, path, value)
    with pytest.raises(SignatureError, match="Received"):
        check_content(bundle, key)


@pytest.mark.parametrize(
    "raw", [b"{", b"{}", b'{"verificationMaterial": 1}', b"[" * 10**6, b"\xff"]
)
def test_other_bytes_are_refused(key, raw):
    with pytest.raises(SignatureError, match="Expected an OpenSSF"):
        check_content(raw, key)


def test_a_payload_of_another_type_is_not_taken_for_a_statement(key):
    bundle = bundle_of(statement_of({".": b"first"}), key, "text/plain")
    bundle["dsseEnvelope"]["payloadType"] = "application/vnd.in-toto+json"
    with pytest.raises(SignatureError, match="that this key signed"):
        check_content(bundle, key)


def test_no_changed_byte_of_a_bundle_vouches_for_another_file():
    raw = (GOLDEN / "file_p256.sig").read_bytes()
    key = (GOLDEN / "p256.pub").read_bytes()
    key = load_public_key(key)
    accepted = 0
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        try:
            check_bundle(changed, b"first", key, FIRST, "model.sig")
            accepted += 1
        except SignatureError:
            pass
        with pytest.raises(SignatureError):
            check_bundle(changed, b"First", key, FIRST, "model.sig")
    # What is neither signed nor needed: the hint, the types, the key's name.
    assert accepted < 250
