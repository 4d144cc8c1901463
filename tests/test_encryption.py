"""Encrypted files: what was written comes back, or nothing does."""

import io
import struct
import subprocess
import sys

import pytest

from keras_squeeze.artifact import encryption, encryption_header
from keras_squeeze.artifact.encryption import (
    DecryptedSource,
    EncryptedWriter,
    encrypt_file,
    parse_key,
    read_key_file,
)
from keras_squeeze.artifact.encryption_header import HEADER_BYTES
from keras_squeeze.artifact.sources import BytesSource, FileSource
from keras_squeeze.errors import (
    DecryptionError,
    LimitExceededError,
    SqueezeError,
    UnsupportedVersionError,
)

pytest.importorskip("cryptography")

KEY = bytes(range(32))
CHUNK = 4096
STORED = CHUNK + 16


@pytest.fixture(autouse=True)
def small_chunks_and_costs(monkeypatch):
    monkeypatch.setattr(encryption_header, "LOG2_CHUNK_BYTES", 12)
    monkeypatch.setattr(encryption_header, "_LOG2_COST", 14)


def content_of(size, seed=0):
    return bytes((seed + i * i // 7) % 256 for i in range(size))


def encrypted(content, key=KEY):
    file = io.BytesIO()
    writer = EncryptedWriter(file, key)
    writer.write(content)
    writer.close()
    return file.getvalue()


def opened(data, key=KEY):
    return DecryptedSource(BytesSource(data, "m.h5"), key)


def decrypted(data, key=KEY):
    source = opened(data, key)
    return source.read(0, source.size)


SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]


@pytest.mark.parametrize("size", SIZES)
def test_content_of_any_size_comes_back(size):
    content = content_of(size)
    data = encrypted(content)
    assert data.startswith(encryption.MAGIC)
    assert len(data) == HEADER_BYTES + size + 16 * max(1, -(-size // CHUNK))
    assert opened(data).size == size
    assert decrypted(data) == content


def test_pieces_written_one_by_one_make_the_same_content():
    file = io.BytesIO()
    writer = EncryptedWriter(file, KEY)
    content = content_of(3 * CHUNK)
    for start in range(0, len(content), 1000):
        writer.write(content[start : start + 1000])
    writer.close()
    assert decrypted(file.getvalue()) == content


def test_equal_content_is_encrypted_differently_each_time():
    first, second = encrypted(b"weights"), encrypted(b"weights")
    assert first[HEADER_BYTES:] != second[HEADER_BYTES:]


def test_any_range_can_be_read():
    content = content_of(3 * CHUNK + 5)
    source = opened(encrypted(content))
    edges = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(content)]
    for start in edges:
        for stop in edges:
            if start <= stop:
                assert source.read(start, stop) == content[start:stop]
    with pytest.raises(DecryptionError, match="Received: 5 to"):
        source.read(5, len(content) + 1)


class CountingSource(BytesSource):
    """Remembers what was read of it."""

    def __init__(self, data, name):
        super().__init__(data, name)
        self.ranges = []

    def read(self, start, stop):
        self.ranges.append((start, stop))
        return super().read(start, stop)


def test_only_the_chunks_asked_for_are_read():
    data = encrypted(content_of(10 * CHUNK))
    counting = CountingSource(data, "m.h5")
    source = DecryptedSource(counting, KEY)
    assert counting.ranges[1:] == [(HEADER_BYTES + 9 * STORED, len(data))]
    counting.ranges.clear()
    source.read(2 * CHUNK, 2 * CHUNK + 10)
    source.read(2 * CHUNK + 10, 2 * CHUNK + 20)
    start = HEADER_BYTES + 2 * STORED
    assert counting.ranges == [(start, start + STORED)]


def test_every_changed_byte_is_seen():
    data = encrypted(content_of(100))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(SqueezeError, match="Received"):
            decrypted(bytes(changed))


def test_every_truncation_and_extension_is_seen():
    data = encrypted(content_of(100))
    for size in range(len(data)):
        with pytest.raises(DecryptionError, match="Received"):
            decrypted(data[:size])
    for more in (1, 16, 17, CHUNK, STORED):
        with pytest.raises(DecryptionError, match="Received"):
            decrypted(data + bytes(more))


@pytest.mark.parametrize("size", [3 * CHUNK, 3 * CHUNK + 5])
def test_a_file_cut_between_chunks_cannot_be_opened(size):
    data = encrypted(content_of(size))
    for chunks in (0, 1, 2):
        with pytest.raises(DecryptionError, match=r"cut|whole chunks"):
            opened(data[: HEADER_BYTES + chunks * STORED])


def chunk_of(data, number):
    start = HEADER_BYTES + number * STORED
    return data[start : start + STORED]


def test_chunks_cannot_be_swapped_or_repeated():
    content = content_of(4 * CHUNK)
    data = encrypted(content)
    first, second = chunk_of(data, 0), chunk_of(data, 1)
    rest = data[HEADER_BYTES + 2 * STORED :]
    for changed in (second + first, first + first):
        source = opened(data[:HEADER_BYTES] + changed + rest)
        with pytest.raises(DecryptionError, match="not authentic"):
            source.read(0, 2 * CHUNK)
        # What is authentic can still be read.
        assert source.read(2 * CHUNK, 4 * CHUNK) == content[2 * CHUNK :]


def test_chunks_of_another_file_by_the_same_key_do_not_fit():
    data = encrypted(content_of(2 * CHUNK))
    other = encrypted(content_of(2 * CHUNK, seed=1))
    spliced = data[: HEADER_BYTES + STORED] + chunk_of(other, 1)
    with pytest.raises(DecryptionError, match="chunk 1 of 2"):
        opened(spliced)
    with pytest.raises(DecryptionError, match="chunk 1 of 2"):
        opened(data[:HEADER_BYTES] + other[HEADER_BYTES:])


def test_the_wrong_key_is_told_from_a_changed_file():
    data = encrypted(b"weights")
    with pytest.raises(DecryptionError, match="another one"):
        opened(data, bytes(32))
    with pytest.raises(DecryptionError, match="pass `key=`"):
        opened(data, None)
    with pytest.raises(DecryptionError, match=r"a key \(bytes\)"):
        opened(data, "a passphrase")


def test_a_guess_of_a_passphrase_costs_what_is_recommended(monkeypatch):
    monkeypatch.undo()
    data = encrypted(b"weights", "word")
    assert tuple(data[11:15]) == (1, 17, 8, 1)
    assert opened(data, "word").size == 7


def test_passphrases():
    data = encrypted(b"weights", "gr\u00fcn")
    assert decrypted(data, "gr\u00fcn") == b"weights"
    # The same letters as another keyboard writes them.
    assert decrypted(data, "gru\u0308n") == b"weights"
    with pytest.raises(DecryptionError, match="another one"):
        decrypted(data, "gruen")
    with pytest.raises(DecryptionError, match=r"a passphrase \(string\)"):
        decrypted(data, KEY)
    with pytest.raises(DecryptionError, match="passphrase of"):
        decrypted(data, None)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), "", 7, None])
def test_keys_of_other_kinds_are_refused(key):
    with pytest.raises(DecryptionError, match="32 bytes, or a passphrase"):
        parse_key(key)


def test_secrets_are_not_shown():
    assert "horse" not in repr(parse_key("correct horse"))
    assert repr(parse_key(KEY).value) not in repr(parse_key(KEY))


def test_key_files(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(KEY)
    assert read_key_file(path) == KEY
    path.write_text(KEY.hex() + "\n")
    assert read_key_file(path) == KEY
    for wrong in (b"", b"\xff" * 33, b"ab" * 31, b"zz" * 32, b"ab" * 64):
        path.write_bytes(wrong)
        with pytest.raises(DecryptionError, match="64 hexadecimal digits"):
            read_key_file(path)
    with pytest.raises(DecryptionError, match="No such file"):
        read_key_file(tmp_path / "none")


def with_byte(data, place, value):
    return data[:place] + bytes([value]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        (8, 2, UnsupportedVersionError),
        (10, 0, UnsupportedVersionError),
        (10, 2, UnsupportedVersionError),
        (11, 2, UnsupportedVersionError),
        (12, 13, LimitExceededError),
        (12, 19, LimitExceededError),
        (12, 255, LimitExceededError),
        (13, 0, LimitExceededError),
        (13, 9, LimitExceededError),
        (13, 255, LimitExceededError),
        (14, 0, LimitExceededError),
        (14, 5, LimitExceededError),
        (14, 255, LimitExceededError),
        (15, 0, LimitExceededError),
        (15, 11, LimitExceededError),
        (15, 25, LimitExceededError),
        (15, 255, LimitExceededError),
    ],
)
def test_hostile_headers_are_refused_before_any_work(
    monkeypatch, place, value, error
):
    def derive(*_):
        raise AssertionError("the key was derived")

    fields = struct.pack("<8sHBBBBBB", encryption.MAGIC, 1, 1, 1, 17, 8, 1, 16)
    data = with_byte(fields + bytes(32 + 32 + 16), place, value)
    monkeypatch.setattr(encryption, "derive", derive)
    with pytest.raises(error, match="Received"):
        opened(data, "passphrase")


def test_a_header_with_scrypt_costs_for_a_key_is_refused():
    data = with_byte(encrypted(b"weights"), 12, 17)
    with pytest.raises(LimitExceededError):
        opened(data)


def test_the_header_cannot_be_exchanged():
    # The same salt with other chunks gives another key.
    data = with_byte(encrypted(content_of(CHUNK)), 15, 13)
    with pytest.raises(DecryptionError, match="header was changed"):
        opened(data)


def test_files(tmp_path):
    source, target = tmp_path / "m.h5", tmp_path / "m.enc.h5"
    source.write_bytes(content_of(5 * CHUNK))
    encrypt_file(source, target, KEY)
    with DecryptedSource(FileSource(target), KEY) as decrypting:
        assert decrypting.read(0, 5 * CHUNK) == source.read_bytes()
    with pytest.raises(FileExistsError):
        encrypt_file(source, target, KEY)
    assert target.exists()
    with pytest.raises(DecryptionError):
        encrypt_file(source, tmp_path / "none.h5", b"short")
    assert not (tmp_path / "none.h5").exists()


def test_the_scheme_as_documented_is_what_is_written():
    """Decrypted with the bare primitives, by the tables in the modules."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    content = content_of(CHUNK + 7)
    data = encrypted(content)
    header, salt = data[:80], data[16:48]
    info = b"keras_squeeze encrypted file" + header[:48]
    keys = HKDF(hashes.SHA256(), 64, salt, info).derive(KEY)
    assert keys[32:] == header[48:]
    cipher = AESGCM(keys[:32])
    first = cipher.decrypt(bytes(12), data[80 : 80 + STORED], header)
    nonce = bytes(10) + b"\x01\x01"
    last = cipher.decrypt(nonce, data[80 + STORED :], header)
    assert first + last == content


def test_without_cryptography_the_message_names_the_extra():
    code = (
        "import sys\n"
        "sys.modules['cryptography'] = None\n"
        "import io\n"
        "from keras_squeeze.artifact import encryption, signing\n"
        "from keras_squeeze.errors import SqueezeError\n"
        "for act in (\n"
        "    lambda: encryption.EncryptedWriter(io.BytesIO(), bytes(32)),\n"
        "    lambda: signing.sign('x', 'y'),\n"
        "    lambda: signing.check_signature(b'', 'x', 'y', 'z'),\n"
        "):\n"
        "    try:\n"
        "        act()\n"
        "    except SqueezeError as error:\n"
        "        assert \"pip install 'keras_squeeze[sign]'\" in str(error)\n"
        "        print('told')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["told"] * 3
