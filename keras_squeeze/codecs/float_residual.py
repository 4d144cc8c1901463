"""Lossless floats against those of a base: what a training step changed.

Layout of the stream of an array that has elements: for every block a varint,
how many bytes, and these. A block is as many whole rows of the array, of its
last axis, as have at most 2**19 elements; a row that has more is cut into
pieces of that many, each a block of one row. A complex number is two floats
along one more axis.

Layout of a block:

- byte: the bits that a token keeps after the leading one (bits 0-1, at most
  2), whether rows (bit 2) and columns (bit 3) have exponents, whether zeros
  changed (bit 4), whether nothing is expected to change (bit 5);
- byte: the trim, zero bits at the end of all mantissas of array and base;
- byte: the guard, at most 53;
- if zeros changed: a list of booleans, where one of base and array is +0 and
  the other is not. Zeros of the array are not mentioned further;
- if something is expected to change: without exponents a signed varint, the
  expected change in half octaves; else a signed varint, the least exponent,
  then, for rows if they have some, then for columns, a list of uint16: 0
  where nothing changes, else 1 more than the exponent is above the least. The
  exponents of rows and columns are added, the least one counts once;
- for each group of `float_residual_tokens` that has weights a list of its
  symbols, uint16, in C order;
- a list of booleans for the differences that are not 0: whether the sign is
  not the base's;
- bits: what tokens do not hold of sizes;
- bits: the tails;
- for each weight that is 0 units: its bit pattern, little-endian.

`float_residual_units` says what units and tails are.

References:
    - Hershcovitch et al., [Lossless and Near-Lossless Compression for
      Foundation Models](https://arxiv.org/abs/2404.15198), 2024, code
      checkpoints as differences of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.byte_cursor import ByteCursor, varint
from keras_squeeze.codecs.float_residual_reading import decode_block
from keras_squeeze.codecs.float_residual_units import FORMATS
from keras_squeeze.codecs.float_residual_writing import encode_block
from keras_squeeze.codecs.relative import FLOAT_RESIDUAL
from keras_squeeze.errors import SqueezeError

_BLOCK = 1 << 19


def supports(array: np.ndarray, base: np.ndarray) -> bool:
    """Whether `encode` may code an array against a base.

    Args:
        array: Array.
        base: Array.

    Returns:
        Boolean: both are floats of one dtype and shape, and finite.
    """
    return (
        array.dtype == base.dtype
        and array.shape == base.shape
        and (array.dtype.name in FORMATS or array.dtype.kind == "c")
        and _is_finite(array)
        and _is_finite(base)
    )


def encode(array: np.ndarray, base: np.ndarray) -> bytes | None:
    """Codes floats against those of a base.

    Args:
        array: Array that `supports` accepts.
        base: Array of the same shape and dtype.

    Returns:
        Bytes, or `None` if the two are too far apart to be compared.

    Raises:
        SqueezeError: If `supports` does not accept them.

    Example:
    >>> import numpy as np
    >>> base = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    >>> len(encode(base * np.float32(1.0001), base)) < 0.5 * base.nbytes
    True
    """
    if not supports(array, base):
        raise SqueezeError(
            "Expected finite floats of one dtype and shape. Received: "
            f"{array.dtype} of shape {array.shape} and "
            f"{base.dtype} of shape {base.shape}"
        )
    parts: list[bytes] = []
    for new, old in zip(_blocks(array), _blocks(base), strict=True):
        data = encode_block(new, old)
        if data is None:
            return None
        parts += [varint(len(data)), data]
    return b"".join(parts)


def decode(
    data: bytes | bytearray | memoryview,
    base: np.ndarray,
    shape: Sequence[int],
    dtype: Any,
) -> np.ndarray:
    """Decodes what `encode` made.

    Args:
        data: Bytes. Anything may have happened to them.
        base: Array, the same that it was coded against.
        shape: Sequence of integers, the declared shape.
        dtype: The declared dtype or its name.

    Returns:
        A new C-contiguous array of that shape and dtype.

    Raises:
        CorruptArtifactError: If the bytes are damaged, or the base is of
            another shape or dtype or not finite.
    """
    dtype = dtypes.dtype_from_name(dtype)
    cursor = ByteCursor(data, FLOAT_RESIDUAL)
    if base.dtype != dtype or base.shape != tuple(shape):
        raise cursor.fail(
            f"a base of dtype {dtype} and shape {tuple(shape)}",
            f"{base.dtype} of shape {base.shape}",
        )
    if not supports(base, base):
        raise cursor.fail("a base of finite floats", base.dtype)
    out = np.empty(base.shape, dtype)
    for new, old in zip(_blocks(out), _blocks(base), strict=True):
        size = cursor.varint(cursor.remaining)
        block = ByteCursor(cursor.take(size), FLOAT_RESIDUAL)
        new[...] = decode_block(block, old)
        block.finish()
    cursor.finish()
    return out


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Views of an array, contiguous or not, as matrices."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "c":
        floats = array.reshape(-1).view(f"f{array.itemsize // 2}")
        array = floats.reshape(*array.shape, 2)
    if array.size == 0:
        return
    matrix = array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
    if array.ndim <= 1:
        matrix = array.reshape(1, -1)
    rows, columns = matrix.shape
    step = max(_BLOCK // columns, 1)
    for row in range(0, rows, step):
        for column in range(0, columns, _BLOCK):
            yield matrix[row : row + step, column : column + _BLOCK]


def _is_finite(array: np.ndarray) -> bool:
    if dtypes.word_size(array.dtype) == 1:
        array = array.astype(np.float32)
    return bool(np.isfinite(array).all())
