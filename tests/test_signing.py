"""Signatures: who vouches for the bytes of a file."""

import os
import shutil
import stat
import subprocess

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import encryption, signing
from keras_squeeze.artifact.access import Access, open_source
from keras_squeeze.errors import DecryptionError, SignatureError

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

CONTENT = b"the bytes of a file"


@pytest.fixture
def keys(tmp_path):
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    signing.generate_keys(private, public)
    return private, public


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(CONTENT)
    return path


def check(file, public, signature=None):
    signature = signature or f"{file}.sig"
    signing.check_signature(
        file.read_bytes(), signature, public, os.fspath(file)
    )


def test_a_signed_file_passes(file, keys):
    private, public = keys
    assert signing.sign(file, private) == f"{file}.sig"
    check(file, public)
    other = file.with_name("elsewhere")
    assert signing.sign(file, private, other) == os.fspath(other)
    check(file, public, other)


def test_a_signature_is_ed25519_over_the_bytes_and_nothing_else(file, keys):
    private, public = keys
    signing.sign(file, private)
    raw = file.with_name("m.h5.sig").read_bytes()
    assert len(raw) == 64
    key = serialization.load_pem_public_key(public.read_bytes())
    key.verify(raw, CONTENT)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl")
def test_openssl_checks_and_makes_the_same_signatures(file, keys):
    private, public = keys
    signing.sign(file, private)
    signature = f"{file}.sig"
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public]
    subprocess.run(
        [*verify, "-rawin", "-in", file, "-sigfile", signature],
        check=True,
        capture_output=True,
    )
    theirs = file.with_name("theirs.sig")
    sign = ["openssl", "pkeyutl", "-sign", "-inkey", private, "-rawin"]
    subprocess.run(
        [*sign, "-in", file, "-out", theirs], check=True, capture_output=True
    )
    check(file, public, theirs)
    assert theirs.read_bytes() == file.with_name("m.h5.sig").read_bytes()


def test_keys_as_paths_bytes_and_objects(file, keys):
    private, public = keys
    loaded = serialization.load_pem_private_key(private.read_bytes(), None)
    for key in (private, os.fspath(private), private.read_bytes(), loaded):
        signing.sign(file, key)
        for other in (public, public.read_bytes(), loaded.public_key()):
            check(file, other)


def test_changed_files_and_foreign_keys_are_refused(file, keys, tmp_path):
    private, public = keys
    signing.sign(file, private)
    signing.generate_keys(tmp_path / "a.pem", tmp_path / "b.pem")
    with pytest.raises(SignatureError, match="another one"):
        check(file, tmp_path / "b.pem")
    for changed in (CONTENT[:-1], CONTENT + b"\0", b"T" + CONTENT[1:], b""):
        file.write_bytes(changed)
        with pytest.raises(SignatureError, match="another one"):
            check(file, public)


def test_stripped_truncated_and_foreign_signatures_are_refused(file, keys):
    private, public = keys
    signature = file.with_name("m.h5.sig")
    with pytest.raises(SignatureError, match="because a public key was given"):
        check(file, public)
    signing.sign(file, private)
    whole = signature.read_bytes()
    for changed in (b"", whole[:-1], whole + b"\0", whole[:32], b"{" * 63):
        signature.write_bytes(changed)
        with pytest.raises(SignatureError, match="Received"):
            check(file, public)
    other = file.with_name("other")
    other.write_bytes(b"another file")
    signing.sign(other, private, signature)
    with pytest.raises(SignatureError, match="another one"):
        check(file, public)
    signature.unlink()
    signature.mkdir()
    with pytest.raises(SignatureError, match="Received"):
        check(file, public)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_in_place_of_a_signature_does_not_block(file, keys):
    os.mkfifo(f"{file}.sig")
    with pytest.raises(SignatureError, match="a pipe"):
        check(file, keys[1])


def test_a_signature_of_any_size_is_not_read(file, keys):
    with open(f"{file}.sig", "wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(SignatureError, match="a larger file"):
        check(file, keys[1])


def pem_of(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    )


def test_keys_that_are_none_are_refused(file, keys, tmp_path):
    private, public = keys
    signing.sign(file, private)
    curve = ec.generate_private_key(ec.SECP256R1())
    wrong = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    (tmp_path / "no.pem").write_text("no key")
    for key in (
        private,
        tmp_path / "no.pem",
        tmp_path / "none.pem",
        b"",
        7,
        pem_of(wrong),
    ):
        with pytest.raises(SignatureError, match="a public"):
            check(file, key)
    with pytest.raises(SignatureError, match="OpenSSF"):
        check(file, pem_of(curve))
    for key in (public, tmp_path / "no.pem", tmp_path / "none.pem", curve):
        with pytest.raises(SignatureError, match="a private Ed25519 key"):
            signing.sign(file, key, tmp_path / "none.sig")
    assert not (tmp_path / "none.sig").exists()


def test_made_keys_are_private_and_new(tmp_path):
    private, public = tmp_path / "a.pem", tmp_path / "b.pem"
    signing.generate_keys(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    for paths in ((private, tmp_path / "c"), (tmp_path / "c", public)):
        with pytest.raises(SignatureError, match="File exists"):
            signing.generate_keys(*paths)
        assert not (tmp_path / "c").exists()
    assert (private.read_bytes(), public.read_bytes()) == before


def test_private_keys_behind_a_password(file, tmp_path):
    private, public = tmp_path / "a.pem", tmp_path / "b.pem"
    signing.generate_keys(private, public, b"secret")
    assert b"ENCRYPTED" in private.read_bytes()
    signing.sign(file, private, password=b"secret")
    check(file, public)
    for password in (None, b"wrong"):
        with pytest.raises(SignatureError, match="Received"):
            signing.sign(file, private, password=password)


def test_what_cannot_be_read_or_written_leaves_nothing(file, keys, tmp_path):
    private, _ = keys
    with pytest.raises(SignatureError, match="No such file"):
        signing.sign(tmp_path / "none.h5", private)
    with pytest.raises(SignatureError, match="No such file"):
        signing.sign(file, private, tmp_path / "none" / "m.sig")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SignatureError, match="directory"):
        signing.sign(file, private, tmp_path / "folder")
    assert not [p for p in os.listdir(tmp_path) if "tmp-" in p]


def test_the_longest_name_and_the_mode_of_a_signature(keys, tmp_path):
    path = tmp_path / ("x" * 248 + ".h5")
    signature = path.with_name(path.name + ".sig")
    for content in (b"first", b"second"):
        path.write_bytes(content)
        signing.sign(path, keys[0])
        signature.chmod(0o640)
    assert signature.stat().st_mode & 0o777 == 0o640
    check(path, keys[1])
    assert not [p for p in os.listdir(tmp_path) if "tmp-" in p]


def written(path):
    tensors = [artifact.TensorInput.from_values("w", np.arange(6.0))]
    artifact.write(os.fspath(path), tensors, {}, keras_version="3.15.1")
    return path


def test_the_signature_is_checked_before_anything_is_parsed(tmp_path, keys):
    private, public = keys
    path = written(tmp_path / "a.h5")
    signing.sign(path, private)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(SignatureError):
        open_source(path, Access(public_key=public))


def test_generated_keys_are_ed25519(keys):
    assert isinstance(
        signing.load_private_key(keys[0]), ed25519.Ed25519PrivateKey
    )


def test_a_file_made_anew_passes_every_digest_but_not_the_key(tmp_path, keys):
    private, public = keys
    path = written(tmp_path / "a.h5")
    signing.sign(path, private)
    access = Access(public_key=public)
    with artifact.read(path, access=access) as opened:
        np.testing.assert_array_equal(opened.decode("w"), np.arange(6.0))
    tensors = [artifact.TensorInput.from_values("w", np.ones(6))]
    artifact.write(os.fspath(path), tensors, {}, keras_version="3.15.1")
    artifact.verify(path)
    for read in (artifact.read, artifact.read_manifest):
        with pytest.raises(SignatureError, match="another one"):
            read(path, access=access)
    with pytest.raises(SignatureError, match="another one"):
        artifact.verify(path, public_key=public)


def test_what_was_checked_is_what_is_read(tmp_path, keys, monkeypatch):
    private, public = keys
    path = written(tmp_path / "a.h5")
    signing.sign(path, private)
    check = signing.check_signature

    def check_then_replace(*arguments):
        check(*arguments)
        other = tmp_path / "b.h5"
        tensors = [artifact.TensorInput.from_values("w", np.ones(6))]
        artifact.write(os.fspath(other), tensors, {}, keras_version="3.15.1")
        path.write_bytes(other.read_bytes())

    monkeypatch.setattr(signing, "check_signature", check_then_replace)
    with artifact.read(path, access=Access(public_key=public)) as opened:
        np.testing.assert_array_equal(opened.decode("w"), np.arange(6.0))


def test_an_encrypted_file_is_signed_as_it_lies_on_the_disk(tmp_path, keys):
    private, public = keys
    path, target = written(tmp_path / "a.h5"), tmp_path / "a.h5.enc"
    encryption.encrypt_file(path, target, bytes(32))
    signing.sign(target, private)
    access = Access(public_key=public, key=bytes(32))
    with artifact.read(target, access=access) as opened:
        np.testing.assert_array_equal(opened.decode("w"), np.arange(6.0))
    with pytest.raises(DecryptionError, match="another one"):
        artifact.read(target, access=Access(public_key=public, key=b"1" * 32))
    with pytest.raises(DecryptionError, match="pass"):
        artifact.read(target)
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(SignatureError):
        artifact.read(target, access=access)
