"""LZW, a dictionary coder of the LZ78 family.

Layout: codes, most significant bit first, zero bits up to a whole byte. The
code `i` (the first is 0) has as many bits as `min(255 + i, 65535)`. The codes
0..255 are single bytes; after each code but the first, while there are fewer
than 65536, a new one stands for the string of the code before and the first
byte of this one's string.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from keras_squeeze.codecs import bits
from keras_squeeze.codecs.byte_codec import ByteCodec

_MAX_CODES = 1 << 16
_BYTES = 256
# Codes that are packed at once: few enough for their bits to fit in memory.
_PIECE = 1 << 16


class Lzw(ByteCodec):
    """A dictionary of the strings seen so far: the classic of GIF and Unix.

    Args:
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.

    Example:
    >>> import numpy as np
    >>> len(Lzw().encode(np.zeros(10_000, "int8"))) < 200
    True

    References:
        - Welch, A technique for high-performance data compression,
          Computer 17(6), 1984.
    """

    id: ClassVar[str] = "lzw"

    def __init__(self, shuffle: bool = False) -> None:
        super().__init__(None, shuffle)

    def _compress(self, plain: bytes) -> bytes:
        codes = np.array(_encode(plain), np.int64)
        widths = _widths(codes.size)
        pieces = [
            bits.variable_bits(
                codes[start : start + _PIECE], widths[start : start + _PIECE]
            )
            for start in range(0, codes.size, _PIECE)
        ]
        return np.packbits(np.concatenate(pieces)).tobytes()

    def _decompress(self, data: bytes, size: int) -> bytes:
        # No code stands for less than a byte, none has more than 16 bits.
        if len(data) > 2 * size + 1:
            raise self._damaged(f"at most {2 * size} bytes", len(data))
        widths = _widths(len(data))
        ends = np.cumsum(widths)
        count = int(np.searchsorted(ends, 8 * len(data), side="right"))
        used = int(ends[count - 1]) if count else 0
        if 8 * len(data) - used >= 8 or not bits.padding_is_zero(data, used):
            raise self._damaged("zero bits after the last code", "others")
        codes = _read(data, widths[:count], ends[:count])
        return self._expand(codes, size)

    def _expand(self, codes: list[int], size: int) -> bytes:
        out = bytearray()
        # String j of the dictionary is what code j became, and a byte more.
        starts: list[int] = []
        ends: list[int] = []
        for code in codes:
            here = len(out)
            if code < _BYTES:
                out.append(code)
            elif code - _BYTES < len(starts):
                first, stop = starts[code - _BYTES], ends[code - _BYTES]
                out += out[first:stop]
                if stop > here:
                    # The string in the making: it ends as it begins.
                    out.append(out[first])
            else:
                raise self._damaged("a code of the dictionary", code)
            if len(out) > size:
                raise self._damaged(f"exactly {size} bytes", "more")
            if len(starts) < _MAX_CODES - _BYTES:
                starts.append(here)
                ends.append(len(out) + 1)
        return bytes(out)


def _encode(plain: bytes) -> list[int]:
    known: dict[tuple[int, int], int] = {}
    out: list[int] = []
    code = plain[0]
    for byte in plain[1:]:
        longer = known.get((code, byte))
        if longer is not None:
            code = longer
            continue
        out.append(code)
        if len(known) < _MAX_CODES - _BYTES:
            known[code, byte] = _BYTES + len(known)
        code = byte
    return [*out, code]


def _widths(count: int) -> np.ndarray:
    greatest = np.minimum(np.arange(count) + _BYTES - 1, _MAX_CODES - 1)
    # frexp's exponent is the bit length.
    return np.frexp(greatest.astype(np.float64))[1].astype(np.int64)


def _read(data: bytes, widths: np.ndarray, ends: np.ndarray) -> list[int]:
    """The codes, each from the three bytes that its last bit ends."""
    padded = np.frombuffer(b"\0\0" + data, np.uint8).astype(np.int64)
    last = (ends - 1) // 8 + 2
    window = padded[last] | padded[last - 1] << 8 | padded[last - 2] << 16
    codes = window >> (-ends % 8) & (1 << widths) - 1
    out: list[int] = codes.tolist()
    return out
