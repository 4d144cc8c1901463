"""Opens an encrypted file, as docs/envelope_format.md says."""

import hashlib
import hmac
import struct
import unicodedata

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

INFO = b"keras_squeeze encrypted file"


def expand(material, salt, info, size):
    """HKDF-SHA256 (RFC 5869)."""
    secret, out, last = hmac.digest(salt, material, "sha256"), b"", b""
    while len(out) < size:
        last += info + bytes([len(out) // 32 + 1])
        last = hmac.digest(secret, last, "sha256")
        out += last
    return out[:size]


def material_of(key, source, parameters, salt):
    if source == 0:
        assert len(key) == 32 and not any(parameters)
        return key
    log_n, r, p = parameters
    assert 14 <= log_n <= 18 and r == 8 and 1 <= p <= 4
    return hashlib.scrypt(
        unicodedata.normalize("NFC", key).encode(),
        salt=salt,
        n=1 << log_n,
        r=r,
        p=p,
        maxmem=1 << 30,
        dklen=32,
    )


def open_envelope(data, key):
    """The file inside; `key` is 32 bytes or a passphrase."""
    head = struct.unpack_from("<8sHBB3sB32s32s", data)
    magic, version, cipher, source, parameters, log_chunk, salt, check = head
    assert magic == b"\x89KSE\r\n\x1a\n" and (version, cipher) == (1, 1)
    assert source in (0, 1) and 12 <= log_chunk <= 24
    material = material_of(key, source, parameters, salt)
    keys = expand(material, salt, INFO + data[:48], 64)
    assert keys[32:] == check
    cipher, out, size = AESGCM(keys[:32]), [], (1 << log_chunk) + 16
    for i, start in enumerate(range(80, len(data), size)):
        chunk, last = data[start : start + size], start + size >= len(data)
        nonce = i.to_bytes(11, "big") + bytes([last])
        out.append(cipher.decrypt(nonce, chunk, data[:80]))
    assert out[-1] or len(out) == 1
    return b"".join(out)
