"""The verbs and options that sign, check and decrypt files."""

import argparse

import pytest

from keras_squeeze.artifact import signing
from keras_squeeze.cli import keygen, sign
from keras_squeeze.cli.access import (
    access_keywords,
    access_of,
    add_access_arguments,
    add_key_arguments,
    read_key,
)
from keras_squeeze.errors import DecryptionError, SignatureError

pytest.importorskip("cryptography")


def parsed(declare, *argv):
    parser = argparse.ArgumentParser()
    declare(parser)
    return parser.parse_args([str(item) for item in argv])


def test_keygen_then_sign(tmp_path):
    private, public = tmp_path / "a.pem", tmp_path / "b.pem"
    file = tmp_path / "m.h5"
    file.write_bytes(b"content")
    report = keygen.run(parsed(keygen.add_arguments, private, public))
    assert [row["file"] for row in report.rows] == [str(private), str(public)]
    args = parsed(sign.add_arguments, file, "--key", private)
    assert sign.run(args).totals["signature"] == f"{file}.sig"
    signing.check_signature(b"content", f"{file}.sig", public, str(file))
    with pytest.raises(SignatureError, match="existing ones are kept"):
        keygen.run(parsed(keygen.add_arguments, private, public))


def test_a_password_and_another_place_for_the_signature(tmp_path):
    private, public = tmp_path / "a.pem", tmp_path / "b.pem"
    file, word = tmp_path / "m.h5", tmp_path / "word.txt"
    file.write_bytes(b"content")
    word.write_text("secret\r\nnot this\n")
    options = ["--password-file", word]
    keygen.run(parsed(keygen.add_arguments, private, public, *options))
    with pytest.raises(SignatureError, match="private"):
        sign.run(parsed(sign.add_arguments, file, "--key", private))
    place = tmp_path / "there.sig"
    options = ["--key", private, *options, "--signature", place]
    sign.run(parsed(sign.add_arguments, file, *options))
    signing.check_signature(b"content", place, public, str(file))


def test_options_become_an_access(tmp_path):
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    options = ["--public-key", "b.pem", "--signature", "s", "--sha256", "00"]
    args = parsed(add_access_arguments, *options, "--key-file", key)
    assert access_keywords(args) == {
        "public_key": "b.pem",
        "signature": "s",
        "expected_sha256": "00",
        "key": b"\xab" * 32,
    }
    access = access_of(args)
    assert access.is_vouched and access.key == b"\xab" * 32
    assert not access_of(parsed(add_access_arguments)).is_vouched


def test_passphrases_are_the_first_line_of_a_file(tmp_path):
    path = tmp_path / "word.txt"
    declare = lambda parser: add_key_arguments(parser, "to encrypt with")  # noqa: E731
    path.write_bytes(b"correct horse \r\nnot this\n")
    args = parsed(declare, "--passphrase-file", path)
    assert read_key(args) == "correct horse "
    for content in (b"", b"\nsecond", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(DecryptionError, match="passphrase"):
            read_key(args)
    with pytest.raises(DecryptionError, match="No such file"):
        read_key(parsed(declare, "--passphrase-file", tmp_path / "none"))
    assert read_key(parsed(declare)) is None


def test_a_key_and_a_passphrase_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        parsed(
            add_access_arguments, "--key-file", "a", "--passphrase-file", "b"
        )
    assert "not allowed with" in capsys.readouterr().err
