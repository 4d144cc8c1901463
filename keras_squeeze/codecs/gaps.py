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

import numpy as np

from keras_squeeze.codecs import bits
from keras_squeeze.codecs.byte_cursor import ByteCursor


def best_parameter(gaps: np.ndarray) -> tuple[int, int]:
    """The parameter that makes the code shortest.

    Args:
        gaps: int64 array, not empty.

    Returns:
        The parameter and the length of the code in bits.
    """
    middle = max(0, (int(gaps.sum()) // gaps.size + 1).bit_length() - 1)
    nearby = range(max(0, middle - 2), middle + 2)
    lengths = [
        (gaps.size * (1 + k) + int((gaps >> k).sum()), k) for k in nearby
    ]
    length, parameter = min(lengths)
    return parameter, length


def write(positions: np.ndarray, parameter: int) -> bytes:
    """Writes strictly increasing positions."""
    gaps = gaps_of(positions)
    low = bits.pack_fixed(gaps & ((1 << parameter) - 1), parameter)
    unary = np.packbits(bits.unary_bits(gaps >> parameter))
    return low + unary.tobytes()


def gaps_of(positions: np.ndarray) -> np.ndarray:
    """The numbers of elements before and between the positions."""
    return np.diff(positions, prepend=-1) - 1


def read(
    cursor: ByteCursor, count: int, parameter: int, length: int
) -> np.ndarray:
    """Reads what `write` wrote.

    Args:
        cursor: ByteCursor at the first byte.
        count: Integer. How many positions.
        parameter: Integer. The parameter `k`, at most 48.
        length: Integer. Every position is below it.

    Returns:
        int64 array of strictly increasing positions.

    Raises:
        CorruptArtifactError: If the bits are no such positions.
    """
    packed = cursor.take(bits.packed_size(count, parameter))
    if not bits.padding_is_zero(packed, count * parameter):
        raise cursor.fail("zero bits after the gaps", packed[-1])
    low = bits.unpack_fixed(packed, count, parameter).astype(np.int64)
    longest = bits.packed_size((length >> parameter) + count, 1)
    window = cursor.data[cursor.position : cursor.position + longest]
    unary = bits.read_unary(
        np.unpackbits(np.frombuffer(window, np.uint8)), count
    )
    if unary is None:
        raise cursor.fail(f"{count} positions below {length}", "fewer")
    used = int(unary.sum()) + count
    if not bits.padding_is_zero(cursor.take((used + 7) // 8), used):
        raise cursor.fail("zero bits after the gaps", "others")
    gaps = (unary << parameter) + low
    # In floating point, because hostile gaps may add up beyond 64 bits.
    if gaps.sum(dtype=np.float64) + count > length:
        raise cursor.fail(f"positions below {length}", "greater ones")
    return np.cumsum(gaps + 1) - 1
