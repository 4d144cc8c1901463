"""The binary range coder of `context_mixing`, in Python.

A number in `[0, 1)` is narrowed down to an interval, `low` and `range` in
units that shrink by `2**-32` whenever `range` falls below `2**32`; then four
bytes are settled. The code is the number of the last interval that ends in
the most zero bits. Its trailing zero bytes are left out: a reader finds zeros
past the end. A stream is legal if coding what it decodes to gives it again.

References:
    - Martin, Range encoding: an algorithm for removing redundancy from a
      digitised message, 1979.
"""

from __future__ import annotations

import math

_WORD = 1 << 32
_MASK = (1 << 64) - 1
_LONGEST_RAW = 16


class Encoder:
    """Writes bits; `bit` and `raw` return what they were given."""

    decoding = False

    def __init__(self) -> None:
        self._settled = bytearray()
        self._low = 0
        self._range = _MASK
        #: The ideal length of what was written, in bits.
        self.ideal_bits = 0.0

    def bit(self, probability: int, bit: int) -> int:
        """Codes a bit that is 1 with a probability in units of `2**-16`."""
        bound = (self._range >> 16) * probability
        if bit:
            self._narrow(0, bound)
        else:
            self._narrow(bound, self._range - bound)
        chance = probability if bit else 65536 - probability
        self.ideal_bits += 16 - math.log2(chance)
        return bit

    def raw(self, value: int, count: int) -> int:
        """Codes `count` bits that are as likely 0 as 1."""
        self.ideal_bits += count
        for part, bits in raw_parts(value, count):
            step = self._range >> bits
            self._narrow(step * part, step)
        return value

    def _narrow(self, step: int, size: int) -> None:
        self._settle(self._low + step)
        self._range = size
        if size < _WORD:
            self._settled += (self._low >> 32).to_bytes(4, "big")
            self._low = self._low << 32 & _MASK
            self._range <<= 32

    def _settle(self, low: int) -> None:
        self._low = low & _MASK
        if low > _MASK:
            place = len(self._settled) - 1
            while self._settled[place] == 255:
                self._settled[place] = 0
                place -= 1
            self._settled[place] += 1

    def finish(self) -> bytes:
        """The bytes of the number."""
        self._settle(last_number(self._low, self._range))
        last = self._low.to_bytes(8, "big")
        return bytes(self._settled + last).rstrip(b"\0")


class Decoder:
    """Reads bits; the values given to `bit` and `raw` do not matter.

    Args:
        data: The bytes. Past their end, zeros are read.
    """

    decoding = True

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = bytes(data)
        self._position = 8
        self._low = 0
        self._range = _MASK
        self._code = int.from_bytes(self._data[:8].ljust(8, b"\0"), "big")

    def bit(self, probability: int, bit: int = 0) -> int:
        """Reads a bit that is 1 with a probability in units of `2**-16`."""
        bound = (self._range >> 16) * probability
        bit = int(self._code < bound)
        if bit:
            self._narrow(0, bound)
        else:
            self._narrow(bound, self._range - bound)
        return bit

    def raw(self, value: int, count: int) -> int:
        """Reads `count` bits that are as likely 0 as 1."""
        value = 0
        for _, bits in raw_parts(0, count):
            step = self._range >> bits
            part = min(self._code // step, (1 << bits) - 1)
            self._narrow(step * part, step)
            value = value << bits | part
        return value

    def _narrow(self, step: int, size: int) -> None:
        self._low = (self._low + step) & _MASK
        self._code = (self._code - step) & _MASK
        self._range = size
        if size < _WORD:
            word = self._data[self._position : self._position + 4]
            self._position += 4
            self._low = self._low << 32 & _MASK
            self._range <<= 32
            below = int.from_bytes(word.ljust(4, b"\0"), "big")
            self._code = (self._code << 32 | below) & _MASK

    @property
    def used_up(self) -> bool:
        """Whether an encoder would have written exactly these bytes."""
        last = last_number(self._low, self._range)
        tail = self._data[-1:] != b"\0" and len(self._data) <= self._position
        return tail and self._code == (last - self._low) & _MASK


def raw_parts(value: int, count: int) -> list[tuple[int, int]]:
    """Cuts raw bits into at most two parts of at most 16 bits."""
    if count <= _LONGEST_RAW:
        return [(value, count)]
    rest = count - _LONGEST_RAW
    return [(value >> rest, _LONGEST_RAW), (value & (1 << rest) - 1, rest)]


def last_number(low: int, size: int) -> int:
    """The number of `low..low + size - 1` that ends in the most zeros."""
    end = low + size - 1
    zeros = (low - 1 ^ end).bit_length() - 1 if low else 64
    return end >> zeros << zeros
