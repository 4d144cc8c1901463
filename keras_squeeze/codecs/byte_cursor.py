"""Reading headers from bytes that nobody vouches for.

A *varint* is an unsigned integer in groups of seven bits, least significant
group first; every byte but the last has its top bit set. The shortest form is
the only legal one. A signed integer is first *zigzag* mapped:
0, -1, 1, -2, ... become 0, 1, 2, 3, ...
"""

from __future__ import annotations

from keras_squeeze.codecs.codec import describe
from keras_squeeze.errors import CorruptArtifactError

_MAX_VARINT_BYTES = 10


def varint(value: int) -> bytes:
    """Writes an unsigned integer.

    Args:
        value: Integer, at least 0.

    Returns:
        One byte for every seven bits.

    Example:
    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """Writes a signed integer: zigzag, then `varint`."""
    return varint(-2 * value - 1 if value < 0 else 2 * value)


class ByteCursor:
    """A position in untrusted bytes.

    Args:
        data: The bytes.
        codec_id: String. Who is reading, for messages.
    """

    def __init__(
        self, data: bytes | bytearray | memoryview, codec_id: str
    ) -> None:
        self.data = memoryview(data).cast("B")
        self.codec_id = codec_id
        self.position = 0

    @property
    def remaining(self) -> int:
        """The number of bytes not yet read."""
        return len(self.data) - self.position

    def fail(self, expected: str, received: object) -> CorruptArtifactError:
        """The error to raise, made here so that all messages agree."""
        return CorruptArtifactError(describe(self.codec_id, expected, received))

    def take(self, count: int) -> memoryview:
        """Reads `count` bytes without copying them."""
        if count > self.remaining:
            raise self.fail(f"{count} more bytes", self.remaining)
        self.position += count
        return self.data[self.position - count : self.position]

    def take_rest(self) -> memoryview:
        """Reads all bytes that are left."""
        return self.take(self.remaining)

    def byte(self) -> int:
        """Reads one byte."""
        return self.take(1)[0]

    def varint(self, limit: int) -> int:
        """Reads a `varint` that must not exceed `limit`."""
        value = 0
        for group in range(_MAX_VARINT_BYTES):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * group
            if byte < 0x80:
                if byte == 0 and group:
                    raise self.fail("the shortest varint", "a longer one")
                if value > limit:
                    raise self.fail(f"an integer of at most {limit}", value)
                return value
        raise self.fail(f"a varint of {_MAX_VARINT_BYTES} bytes", "more bytes")

    def signed_varint(self, low: int, high: int) -> int:
        """Reads a `signed_varint` that must lie in `low..high`."""
        raw = self.varint((1 << 65) - 1)
        value = -(raw + 1 >> 1) if raw & 1 else raw >> 1
        if not low <= value <= high:
            raise self.fail(f"an integer in {low}..{high}", value)
        return value

    def finish(self) -> None:
        """Raises unless every byte has been read."""
        if self.remaining:
            raise self.fail("no trailing bytes", self.remaining)
