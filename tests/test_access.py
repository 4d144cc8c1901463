"""What is checked before a byte of a file is parsed."""

from hashlib import sha256

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import Access, Limits, TensorInput
from keras_squeeze.artifact import access as access_module
from keras_squeeze.artifact.access import make_access, open_source
from keras_squeeze.artifact.sources import BytesSource
from keras_squeeze.errors import (
    DecryptionError,
    LimitExceededError,
    SignatureError,
)


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "a.h5"
    artifact.write(
        str(target),
        [TensorInput.from_values("w", np.arange(30, dtype="float32"))],
        {"class_name": "Sequential", "name": "m", "config": None},
        keras_version="3.15.1",
    )
    return target


@pytest.mark.parametrize("case", [str.lower, str.upper, lambda x: f" {x}\n"])
def test_the_expected_digest(path, case):
    digest = case(sha256(path.read_bytes()).hexdigest())
    assert artifact.verify(path, expected_sha256=digest).totals["ok"]
    assert artifact.inspect(path, expected_sha256=digest).rows


@pytest.mark.parametrize("digest", ["", "0" * 64, "no digest"])
def test_another_digest(path, digest, monkeypatch):
    monkeypatch.setattr("keras_squeeze.artifact.reading.parse_skeleton", None)
    for read in (artifact.inspect, artifact.verify):
        with pytest.raises(SignatureError, match="SHA-256"):
            read(path, expected_sha256=digest)


def test_the_digest_of_a_file_that_is_none_of_ours(tmp_path):
    foreign = tmp_path / "a.bin"
    foreign.write_bytes(b"anything")
    with pytest.raises(SignatureError):
        artifact.read(foreign, access=Access(expected_sha256="0" * 64))


def test_a_signature_without_a_key_is_no_check(path):
    with pytest.raises(SignatureError, match="public key"):
        artifact.verify(path, signature=path)


def test_what_is_vouched_for_is_in_memory(path, monkeypatch):
    monkeypatch.setattr(access_module, "SMALL_FILE_BYTES", 0)
    digest = sha256(path.read_bytes()).hexdigest()
    source = open_source(path, Access(expected_sha256=digest))
    assert isinstance(source, BytesSource)
    assert not isinstance(open_source(path, Access()), BytesSource)


def test_a_signed_file_that_is_too_large_for_memory(path):
    access = Access(Limits(max_signed_bytes=10), expected_sha256="0" * 64)
    with pytest.raises(LimitExceededError, match="signed file"):
        artifact.read(path, access=access)
    assert artifact.read(path, Limits(max_signed_bytes=10)).tensors


def test_limits_given_beside_an_access_count(path):
    with pytest.raises(LimitExceededError):
        artifact.read(path, Limits(max_tensors=0), access=Access())
    assert make_access(None, {"key": "x"}).limits == Limits()


def test_an_encrypted_file_asks_for_its_key(path, tmp_path):
    pytest.importorskip("cryptography")
    from keras_squeeze.artifact.encryption import encrypt_file

    locked = tmp_path / "a.h5.enc"
    encrypt_file(path, locked, bytes(32))
    with pytest.raises(DecryptionError, match="pass `key=`"):
        artifact.inspect(locked)
    report = artifact.verify(locked, key=bytes(32))
    assert report.totals["ok"]
    digest = sha256(locked.read_bytes()).hexdigest()
    assert artifact.verify(locked, key=bytes(32), expected_sha256=digest)


def test_a_key_is_not_shown():
    assert "secret" not in repr(Access(key="secret"))
