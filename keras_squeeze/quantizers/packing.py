"""Several small codes in a byte, in planes.

With `k` codes a byte and `m = ceil(n / k)` bytes, byte `i` holds the codes
`i`, `i + m`, `i + 2m`, ... from its low bits to its high bits. One shift of
all bytes thus gives `m` consecutive codes, and a layer unpacks with a few
shifts and one concatenation.

Fields of 2 and 4 bits are two's complement. A field of 1 bit is the sign bit:
0 stands for +1 and 1 for -1. Zero bytes are therefore codes of zero (or, for
signs, +1), and the bits beyond the last code are zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError


def storage_width(bits: int) -> int:
    """Bits a code takes in a packed byte: 1, 2, 4 or 8.

    Args:
        bits: Integer from 1 to 8. Width of a code.

    Returns:
        Integer that divides 8.

    Example:
    >>> [storage_width(bits) for bits in range(1, 9)]
    [1, 2, 4, 4, 8, 8, 8, 8]
    """
    if bits > 4:
        return 8
    return 4 if bits == 3 else bits


def packed_size(count: int, width: int) -> int:
    """Number of bytes that hold `count` codes of `width` bits."""
    return -(-count * width // 8)


def pack_codes(codes: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """Packs codes into bytes.

    Args:
        codes: Array of integers that fit `width` bits, taken in C order.
        width: Integer: 1, 2, 4 or 8.

    Returns:
        One-dimensional uint8 array.

    Raises:
        SqueezeError: If a code does not fit the width.

    Example:
    >>> pack_codes(np.array([1, -1, 7]), 4).tolist()
    [113, 15]
    """
    flat = np.asarray(codes).reshape(-1)
    _check_range(flat, width)
    signed = flat.astype(np.int8).view(np.uint8)
    # The top bit of the byte is the sign bit.
    fields = signed >> 7 if width == 1 else signed & np.uint8(2**width - 1)
    count = packed_size(flat.size, width)
    planes = np.zeros((8 // width, count), np.uint8)
    planes.reshape(-1)[: flat.size] = fields
    packed = np.zeros(count, np.uint8)
    for plane, values in enumerate(planes):
        packed |= values << np.uint8(plane * width)
    return packed


def unpack_codes(
    packed: NDArray[np.uint8], width: int, count: int
) -> NDArray[np.int8]:
    """Undoes `pack_codes`.

    Args:
        packed: One-dimensional uint8 array.
        width: Integer: 1, 2, 4 or 8.
        count: Integer. Number of codes.

    Returns:
        One-dimensional int8 array of `count` codes.

    Raises:
        SqueezeError: If the number of bytes does not fit the count.

    Example:
    >>> unpack_codes(np.array([113, 15], "uint8"), 4, 3)
    array([ 1, -1,  7], dtype=int8)
    """
    _check_width(width)
    if packed.shape != (packed_size(count, width),):
        raise SqueezeError(
            f"Expected {packed_size(count, width)} bytes for {count} codes of "
            f"{width} bits. Received: an array of shape {packed.shape}"
        )
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    fields = (packed[None, :] >> shifts) & np.uint8(2**width - 1)
    signed = fields.reshape(-1)[:count].astype(np.int8)
    if width == 1:
        return np.int8(1) - np.int8(2) * signed
    if width == 8:
        return signed
    sign = np.int8(1 << (width - 1))
    return (signed ^ sign) - sign


def _check_width(width: int) -> None:
    if width not in (1, 2, 4, 8):
        raise SqueezeError(
            f"Expected `width` to be 1, 2, 4 or 8. Received: width={width!r}"
        )


def _check_range(flat: NDArray[Any], width: int) -> None:
    _check_width(width)
    if width == 1:
        fits = bool(np.all(np.abs(flat.astype(np.int64)) == 1))
    else:
        half = 2 ** (width - 1)
        fits = flat.size == 0 or bool(flat.min() >= -half and flat.max() < half)
    if not fits:
        raise SqueezeError(
            f"Expected codes that fit {width} bits "
            f"({'-1 or +1' if width == 1 else 'signed'}). Received: codes "
            f"from {flat.min()} to {flat.max()}"
        )
