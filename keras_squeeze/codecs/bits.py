"""Packing integers into bits, most significant bit first.

All functions take and give NumPy arrays and have no loop over elements. The
last byte of a packed run is filled with zero bits.
"""

from __future__ import annotations

import numpy as np

# Bits are unpacked to a byte each; a bounded piece at a time keeps the
# working memory small. A multiple of 8, so that pieces end on whole bytes.
_PIECE = 1 << 16


def packed_size(count: int, width: int) -> int:
    """The bytes that `count` integers of `width` bits take."""
    return (count * width + 7) // 8


def pack_fixed(values: np.ndarray, width: int) -> bytes:
    """Packs integers in `width` bits each.

    Args:
        values: One-dimensional unsigned array, every value below `2**width`.
        width: Integer in 0..64.

    Returns:
        `packed_size(values.size, width)` bytes.
    """
    if width == 0:
        return b""
    size = _container_size(width)
    parts = []
    for start in range(0, values.size, _PIECE):
        piece = values[start : start + _PIECE].astype(f">u{size}")
        bits = np.unpackbits(piece.view(np.uint8).reshape(-1, size), axis=1)
        parts.append(np.packbits(bits[:, 8 * size - width :]).tobytes())
    return b"".join(parts)


def unpack_fixed(
    data: bytes | memoryview, count: int, width: int
) -> np.ndarray:
    """Unpacks what `pack_fixed` packed.

    Args:
        data: Exactly `packed_size(count, width)` bytes.
        count: Integer. How many values.
        width: Integer in 0..64.

    Returns:
        One-dimensional array of the narrowest unsigned dtype.
    """
    size = _container_size(width)
    out = np.zeros(count, f"u{size}")
    packed = np.frombuffer(data, np.uint8)
    for start in range(0, count if width else 0, _PIECE):
        piece = out[start : start + _PIECE]
        first = start * width // 8
        last = first + packed_size(piece.size, width)
        bits = np.zeros((piece.size, 8 * size), np.uint8)
        bits[:, 8 * size - width :] = np.unpackbits(
            packed[first:last], count=piece.size * width
        ).reshape(-1, width)
        piece[:] = np.packbits(bits).view(f">u{size}")
    return out


def padding_is_zero(data: bytes | memoryview, bit_count: int) -> bool:
    """Whether the bits after the first `bit_count` of the last byte are 0."""
    spare = -bit_count % 8
    return not spare or not data[-1] & ((1 << spare) - 1)


def unary_bits(values: np.ndarray) -> np.ndarray:
    """Each value as that many zero bits and a one bit, as an array of bits."""
    ends = np.cumsum(values.astype(np.int64) + 1)
    bits = np.zeros(int(ends[-1]) if ends.size else 0, np.uint8)
    bits[ends - 1] = 1
    return bits


def read_unary(bits: np.ndarray, count: int) -> np.ndarray | None:
    """The first `count` unary values of a bit array, None if there are fewer.

    The values occupy `values.sum() + count` bits.
    """
    ends = np.flatnonzero(bits)[:count]
    if ends.size < count:
        return None
    return np.diff(ends, prepend=-1) - 1


def variable_bits(values: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Each value in its own number of bits, as an array of bits."""
    index, shift = _bit_places(widths)
    out: np.ndarray = (values[index] >> shift & 1).astype(np.uint8)
    return out


def read_variable(bits: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Reads what `variable_bits` made; widths are at most 32."""
    index, shift = _bit_places(widths)
    parts = bits[: index.size].astype(np.float64) * (1 << shift)
    return np.bincount(index, parts, widths.size).astype(np.int64)


def _bit_places(widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    index = np.repeat(np.arange(widths.size), widths)
    ends = np.repeat(np.cumsum(widths), widths)
    return index, ends - 1 - np.arange(index.size)


def _container_size(width: int) -> int:
    return next(size for size in (1, 2, 4, 8) if width <= 8 * size)
