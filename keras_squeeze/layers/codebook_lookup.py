"""Codes to the entries of a codebook, in the graph.

TensorFlow's gather is slow, so a codebook shared by a kernel is first spread
over the 256 values of a byte, once for each code in it: the packed bytes are
then looked up as they lie, without unpacking them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_squeeze.quantizers.packing import unpack_codes
from keras_squeeze.quantizers.quantized_tensor import codebook_index


def look_up(stored: Any, codebook: Any, bits: int, width: int) -> Any:
    """Entries of one codebook for the bytes of stored codes.

    Args:
        stored: One-dimensional tensor: uint8 bytes in planes of
            `quantizers.packing`, or int8 codes if `width` is 8.
        codebook: float32 array, tensor or variable of shape `(2 ** bits,)`.
        bits: Integer from 1 to 8.
        width: Integer: 1, 2, 4 or 8. Bits a stored code.

    Returns:
        float32 tensor of shape `(codes,)`, plane after plane.
    """
    fields = ops.cast(stored, "int32")
    if width == 8:
        return ops.take(codebook, fields + 2 ** (bits - 1), axis=0)
    tables = ops.take(codebook, _entries_of_bytes(bits, width), axis=0)
    planes = [ops.take(tables[i], fields, axis=0) for i in range(8 // width)]
    return ops.concatenate(planes, axis=0)


def _entries_of_bytes(bits: int, width: int) -> NDArray[np.int32]:
    """The entry that each plane of each byte stands for."""
    every = np.arange(256, dtype=np.uint8)
    # Planes of all 256 bytes: (codes a byte, 256).
    codes = unpack_codes(every, width, 256 * (8 // width)).reshape(-1, 256)
    entries = codebook_index(codes, bits)
    # A field may be wider than a code; what it cannot hold does not occur.
    return np.clip(entries, 0, 2**bits - 1).astype(np.int32)


def look_up_rows(codes: Any, codebook: Any, bits: int, rows: Any) -> Any:
    """Entries of the codebooks that lie in the rows of a matrix.

    Args:
        codes: int8 tensor of any shape.
        codebook: float32 array, tensor or variable of shape
            `(rows, 2 ** bits)`.
        bits: Integer from 1 to 8.
        rows: Integer tensor that broadcasts against `codes`: the row of each.

    Returns:
        float32 tensor of the shape of `codes`.
    """
    entries = ops.cast(codes, "int32") + 2 ** (bits - 1)
    if bits == 1:
        entries = ops.right_shift(entries, 1)
    flat = ops.reshape(codebook, (-1,))
    places = entries + ops.cast(rows, "int32") * 2**bits
    return ops.take(flat, places, axis=0)
