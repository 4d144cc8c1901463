"""Writing and reading the side information of `class_rans`, bit by bit."""

from __future__ import annotations

import numpy as np

from keras_squeeze.codecs import bits
from keras_squeeze.codecs.byte_cursor import ByteCursor


class BitWriter:
    """Collects fields of bits, most significant bit first."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def field(self, value: int, width: int) -> None:
        """Writes an integer in `width` bits."""
        if width:
            self._parts.append(f"{value:0{width}b}".encode())

    def array(self, unpacked: np.ndarray) -> None:
        """Writes an array of bits, uint8."""
        self._parts.append(unpacked.tobytes())

    def to_bytes(self) -> bytes:
        """All bits, filled up with zeros to a whole byte."""
        written = np.frombuffer(b"".join(self._parts), np.uint8)
        # The lowest bit of a digit is what it says.
        return np.packbits(written & 1).tobytes()


class BitReader:
    """Reads fields of bits from bytes nobody vouches for.

    Args:
        cursor: ByteCursor at the first byte.
    """

    def __init__(self, cursor: ByteCursor) -> None:
        self.cursor = cursor
        self.data = cursor.data[cursor.position :]
        self.packed = np.frombuffer(self.data, np.uint8)
        self.size = 8 * len(self.data)
        self.position = 0

    def _window(self, count: int) -> np.ndarray:
        """So many bits from the position on, or all there are."""
        first, skipped = divmod(self.position, 8)
        last = (self.position + count + 7) // 8
        unpacked = np.unpackbits(self.packed[first:last])
        return unpacked[skipped : skipped + count]

    def take(self, count: int) -> np.ndarray:
        """Reads `count` bits as an array."""
        self._skip(count)
        self.position -= count
        window = self._window(count)
        self.position += count
        return window

    def _skip(self, count: int) -> None:
        self.position += count
        if self.position > self.size:
            left = self.size - self.position + count
            raise self.cursor.fail(f"{count} more bits", left)

    def field(self, width: int) -> int:
        """Reads an integer of `width` bits."""
        first = self.position // 8
        self._skip(width)
        end = self.position
        packed = self.data[first : (end + 7) // 8]
        return int.from_bytes(packed, "big") >> -end % 8 & ((1 << width) - 1)

    def unary(self, count: int, longest: int) -> np.ndarray:
        """Reads integers in unary, none above `longest`."""
        most, guess = count * (longest + 1), 4 * count + 64
        while True:
            window = self._window(min(guess, most))
            ones = window.nonzero()[0][:count]
            if ones.size == count or guess > window.size:
                break
            guess *= 4
        if ones.size < count:
            raise self.cursor.fail(f"{count} runs of zeros", ones.size)
        values: np.ndarray = ones.copy()
        values[1:] -= ones[:-1] + 1
        if count and values.max() > longest:
            raise self.cursor.fail(f"at most {longest} zeros", values.max())
        self.position += int(ones[-1]) + 1 if count else 0
        return values

    def variable(self, widths: np.ndarray) -> np.ndarray:
        """Reads integers of the given widths."""
        total = int(widths.sum())
        if not total:
            return np.zeros(widths.size, np.int64)
        return bits.read_variable(self.take(total), widths)

    def finish(self) -> None:
        """Moves the cursor behind the bits; the filling must be zero."""
        size = (self.position + 7) // 8
        packed = self.cursor.take(size)
        if size and not bits.padding_is_zero(packed, self.position):
            raise self.cursor.fail("zero bits of filling", packed[-1])


def zigzag(values: np.ndarray) -> np.ndarray:
    """0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    return np.where(values < 0, -2 * values - 1, 2 * values)


def unzigzag(values: np.ndarray) -> np.ndarray:
    """The inverse of `zigzag`."""
    return np.where(values & 1, -(values + 1 >> 1), values >> 1)
