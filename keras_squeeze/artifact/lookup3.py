"""Jenkins' lookup3 hash: the checksum of HDF5's metadata.

References:
- B. Jenkins, lookup3.c, 2006, public domain: `hashlittle`.
"""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFF
_START = 0xDEADBEEF
_WORDS = struct.Struct("<III")


def lookup3(data: bytes) -> int:
    """The 32-bit hash of some bytes, with a start value of 0.

    Args:
        data: Bytes.

    Returns:
        Integer from 0 to 2**32 - 1.

    Example:
    >>> hex(lookup3(b""))
    '0xdeadbeef'
    >>> hex(lookup3(b"Four score and seven years ago"))
    '0x17770551'
    """
    size = len(data)
    a = b = c = (_START + size) & _MASK
    if not size:
        return c
    last = (size - 1) // 12 * 12
    padded = data[last:].ljust(12, b"\0")
    for x, y, z in _WORDS.iter_unpack(data[:last]):
        # Sums may outgrow 32 bits until they are next shifted.
        a, b, c = a + x, b + y, c + z & _MASK
        a = (a - c & _MASK) ^ (c << 4 & _MASK | c >> 28)
        c += b
        b = (b - a & _MASK) ^ (a << 6 & _MASK | a >> 26)
        a += c
        c = (c - b & _MASK) ^ (b << 8 & _MASK | b >> 24)
        b += a
        a = (a - c & _MASK) ^ (c << 16 & _MASK | c >> 16)
        c += b
        b = (b - a & _MASK) ^ (a << 19 & _MASK | a >> 13)
        a += c
        c = (c - b & _MASK) ^ (b << 4 & _MASK | b >> 28)
        b += a
    x, y, z = _WORDS.unpack(padded)
    return _finish((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _finish(a: int, b: int, c: int) -> int:
    c = (c ^ b) - _rotate(b, 14) & _MASK
    a = (a ^ c) - _rotate(c, 11) & _MASK
    b = (b ^ a) - _rotate(a, 25) & _MASK
    c = (c ^ b) - _rotate(b, 16) & _MASK
    a = (a ^ c) - _rotate(c, 4) & _MASK
    b = (b ^ a) - _rotate(a, 14) & _MASK
    return (c ^ b) - _rotate(b, 24) & _MASK
