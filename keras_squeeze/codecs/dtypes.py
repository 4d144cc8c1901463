"""The dtypes an artifact may hold, and arrays seen as plain bit patterns.

Every codec works on bit patterns, never on values, so that NaN payloads,
negative zeros and denormals come back as they went in. `bfloat16` and the
`float8` family come from `ml_dtypes`, which is imported when first named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_squeeze.errors import CorruptArtifactError, SqueezeError

_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_NUMPY_DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "complex64", "complex128"),
)

#: Every name `dtype_from_name` knows.
DTYPE_NAMES = (*_NUMPY_DTYPES, *_ML_DTYPES)

#: Tensors above this many bytes are refused whatever the caller allows.
MAX_TENSOR_BYTES = 1 << 48

_FLOAT_NAMES = tuple(n for n in DTYPE_NAMES if "float" in n)


def dtype_from_name(name: str | np.dtype[Any] | type) -> np.dtype[Any]:
    """Looks a dtype up by its name.

    Args:
        name: String such as `"float32"` or `"bfloat16"`, or anything
            `numpy.dtype` accepts.

    Returns:
        The `numpy.dtype` in native byte order.

    Raises:
        SqueezeError: If codecs do not handle that dtype.

    Example:
    >>> dtype_from_name("float32")
    dtype('float32')
    """
    if isinstance(name, str) and name in _ML_DTYPES:
        import ml_dtypes

        name = getattr(ml_dtypes, name)
    dtype: np.dtype[Any] | None
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = None
    if dtype is None or dtype.name not in DTYPE_NAMES:
        raise SqueezeError(
            f"Expected a dtype that codecs handle, one of {DTYPE_NAMES}. "
            f"Received: {name!r}"
        )
    return dtype.newbyteorder("=") if dtype.kind != "V" else dtype


def is_supported(dtype: np.dtype[Any]) -> bool:
    """Whether codecs handle arrays of this dtype, in any byte order."""
    return dtype.name in DTYPE_NAMES


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is a real floating point one, `bfloat16` included."""
    return dtype.name in _FLOAT_NAMES


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is an integer one or `bool`."""
    return dtype.kind in "biu"


def integer_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the greatest value of an integer dtype or `bool`."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def element_count(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """The number of elements of a declared shape, checked before it is used.

    Args:
        shape: Sequence of integers, the declared dimensions.
        dtype: The declared dtype.

    Returns:
        The product of the dimensions.

    Raises:
        CorruptArtifactError: If a dimension is negative or no integer, or the
            tensor could not exist in memory.
    """
    good = all(
        isinstance(d, int | np.integer) and not isinstance(d, bool) and d >= 0
        for d in shape
    )
    count = math.prod(int(d) for d in shape) if good else 0
    if not good or count * dtype.itemsize > MAX_TENSOR_BYTES:
        raise CorruptArtifactError(
            "Expected non-negative dimensions of a tensor of at most "
            f"{MAX_TENSOR_BYTES} bytes. Received: shape={tuple(shape)}"
        )
    return count


def flat_native(array: np.ndarray) -> np.ndarray:
    """The elements in C order: one dimension, contiguous, native bytes."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if not flat.dtype.isnative:
        flat = flat.astype(flat.dtype.newbyteorder("="))
    return flat


def word_size(dtype: np.dtype[Any]) -> int:
    """Bytes of one bit pattern: a complex number is a pair of them."""
    return dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize


def bit_patterns(array: np.ndarray) -> np.ndarray:
    """The elements in C order as unsigned integers of the same width.

    Args:
        array: Array of any shape, memory order and byte order; a complex
            array gives two patterns an element.

    Returns:
        One-dimensional unsigned array, a view where that is possible.
    """
    flat = flat_native(array)
    return flat.view(f"u{word_size(flat.dtype)}")


def from_bit_patterns(
    bits: np.ndarray, shape: Sequence[int], dtype: np.dtype[Any]
) -> np.ndarray:
    """Turns `bit_patterns` back into an array of the declared kind."""
    return bits.view(dtype).reshape(tuple(shape))


def little_endian_bytes(array: np.ndarray) -> bytes:
    """The elements in C order as little-endian bytes."""
    bits = bit_patterns(array)
    return bits.astype(bits.dtype.newbyteorder("<"), copy=False).tobytes()


def from_little_endian(
    data: bytes | bytearray | memoryview,
    shape: Sequence[int],
    dtype: np.dtype[Any],
) -> np.ndarray:
    """A fresh array from little-endian bytes of exactly its size."""
    words = np.frombuffer(data, f"<u{word_size(dtype)}")
    native = words.astype(words.dtype.newbyteorder("="), copy=True)
    return from_bit_patterns(native, shape, dtype)
