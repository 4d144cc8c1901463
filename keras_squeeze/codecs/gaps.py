"""Positions of rare elements, as Golomb-Rice coded gaps.

A gap is the number of elements between one position and the one before it.
With a parameter `k` the layout is:

- the low `k` bits of each gap, `k` bits each, most significant bit first, the
  last byte filled with zero bits;
- the rest of each gap, `gap >> k`, in unary: that many zero bits and a one,
  the last byte filled with zero bits.

References:
    - Rice, Plaunt, Adaptive variable-length coding for efficient compression
      of spacecraft television data, IEEE Trans. Communication Technology,
      1971.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_squeeze.codecs import bits
from keras_squeeze.codecs.blocks import blocks
from keras_squeeze.codecs.byte_cursor import ByteCursor

# Unpacked, a byte a bit, it stays in the cache.
_PIECE_BYTES = 1 << 15


def best_parameter(differs: np.ndarray) -> tuple[int, int]:
    """The parameter that makes the code shortest.

    Args:
        differs: One-dimensional boolean array, where the elements are; at
            least one.

    Returns:
        The parameter and the length of the code in bits.
    """
    count = int(np.count_nonzero(differs))
    last = differs.size - 1 - int(differs[::-1].argmax())
    middle = max(0, ((last + 1 - count) // count + 1).bit_length() - 1)
    nearby = range(max(0, middle - 2), middle + 2)
    lengths = dict.fromkeys(nearby, 0)
    for gaps in _gaps(differs):
        for k in nearby:
            lengths[k] += gaps.size * (1 + k) + int((gaps >> k).sum())
    length, parameter = min((length, k) for k, length in lengths.items())
    return parameter, length


def write(differs: np.ndarray, parameter: int) -> bytes:
    """Writes where the elements are, given what `best_parameter` takes."""
    low: list[bytes] = []
    high: list[bytes] = []
    mask = (1 << parameter) - 1
    spare, spare_bits = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    for found in _gaps(differs):
        # Eight gaps make whole bytes, whatever the parameter is.
        gaps = np.concatenate([spare, found])
        whole = gaps.size // 8 * 8
        gaps, spare = gaps[:whole], gaps[whole:]
        low.append(bits.pack_fixed(gaps & mask, parameter))
        unary = [spare_bits, bits.unary_bits(gaps >> parameter)]
        joined = np.concatenate(unary)
        whole = joined.size // 8 * 8
        high.append(np.packbits(joined[:whole]).tobytes())
        spare_bits = joined[whole:]
    low.append(bits.pack_fixed(spare & mask, parameter))
    unary = [spare_bits, bits.unary_bits(spare >> parameter)]
    high.append(np.packbits(np.concatenate(unary)).tobytes())
    return b"".join(low + high)


def read(
    cursor: ByteCursor, count: int, parameter: int, length: int
) -> np.ndarray:
    """Reads what `write` wrote.

    Args:
        cursor: ByteCursor at the first byte.
        count: Integer. How many elements there are.
        parameter: Integer. The parameter `k`, at most 48.
        length: Integer. Every position is below it.

    Returns:
        Boolean array of that length.

    Raises:
        CorruptArtifactError: If the bits are no such positions.
    """
    packed = cursor.take(bits.packed_size(count, parameter))
    if not bits.padding_is_zero(packed, count * parameter):
        raise cursor.fail("zero bits after the gaps", packed[-1])
    low = bits.unpack_fixed(packed, count, parameter)
    longest = bits.packed_size((length >> parameter) + count, 1)
    window = cursor.data[cursor.position : cursor.position + longest]
    used = _unary_length(window, count)
    if used is None:
        raise cursor.fail(f"{count} positions below {length}", "fewer")
    unary = cursor.take((used + 7) // 8)
    if not bits.padding_is_zero(unary, used):
        raise cursor.fail("zero bits after the gaps", "others")
    differs = np.zeros(length, bool)
    done, position = 0, -1
    for high in _runs(unary):
        some = low[done : done + high.size]
        done += high.size
        # In floating point, because hostile gaps may add up beyond 64 bits.
        reach = high.astype(np.float64) * 2.0**parameter + some + 1
        if position + reach.sum() >= length:
            raise cursor.fail(f"positions below {length}", "greater ones")
        gaps = (high << parameter) + some.astype(np.int64)
        positions = np.cumsum(gaps + 1) + position
        differs[positions] = True
        position = int(positions[-1])
    return differs


def _gaps(differs: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of elements before and between those that differ; int64."""
    before = -1
    for block in blocks(differs.size):
        positions = np.flatnonzero(differs[block]) + block.start
        if positions.size:
            yield np.diff(positions, prepend=before) - 1
            before = int(positions[-1])


def _unary_length(window: bytes | memoryview, count: int) -> int | None:
    """The bits up to the one that ends so many numbers, if they do end."""
    packed = np.frombuffer(window, np.uint8)
    missing = count
    for start in range(0, packed.size, _PIECE_BYTES):
        unpacked = np.unpackbits(packed[start : start + _PIECE_BYTES])
        found = int(np.count_nonzero(unpacked))
        if found >= missing:
            ends = np.flatnonzero(unpacked)
            return 8 * start + int(ends[missing - 1]) + 1
        missing -= found
    return None


def _runs(unary: bytes | memoryview) -> Iterator[np.ndarray]:
    """The numbers, a piece at a time; int64, none of the pieces empty."""
    packed = np.frombuffer(unary, np.uint8)
    before = -1
    for start in range(0, packed.size, _PIECE_BYTES):
        unpacked = np.unpackbits(packed[start : start + _PIECE_BYTES])
        ends = np.flatnonzero(unpacked) + 8 * start
        if ends.size:
            yield np.diff(ends, prepend=before) - 1
            before = int(ends[-1])
