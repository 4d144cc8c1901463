"""The codec of arrays whose elements are all the same: zeros, ones, eps.

Layout: the bit pattern of the element, little-endian, without its zero bytes
at the end, so that an array of zeros takes no bytes at all. For a complex
array the bytes of real and imaginary part follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.codec import Codec, describe
from keras_squeeze.codecs.raw import check_bool
from keras_squeeze.errors import CorruptArtifactError


class Constant(Codec):
    """All elements equal, bit for bit.

    Example:
    >>> import numpy as np
    >>> Constant().encode(np.zeros((64, 64), "float32"))
    b''
    """

    id: ClassVar[str] = "constant"

    def supports(self, array: np.ndarray) -> bool:
        """Whether all elements have the same bit pattern."""
        if not super().supports(array) or array.size == 0:
            return super().supports(array)
        # Most arrays differ within the first elements: look there first.
        flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel()
        return _all_equal(flat[:16]) and _all_equal(flat)

    def encode(self, array: np.ndarray) -> bytes:
        """Writes one element."""
        self.require_support(array)
        first = dtypes.flat_native(array)[:1]
        return dtypes.little_endian_bytes(first).rstrip(b"\0")

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Fills an array; see `Codec.decode`."""
        dtype = dtypes.dtype_from_name(dtype)
        count = dtypes.element_count(shape, dtype)
        limit = dtype.itemsize if count else 0
        if len(data) > limit or (len(data) and data[-1] == 0):
            raise CorruptArtifactError(
                describe(
                    self.id,
                    f"at most {limit} bytes that do not end in zero",
                    bytes(data[:32]),
                    shape,
                )
            )
        check_bool(data, dtype, self.id)
        element = bytes(data).ljust(dtype.itemsize, b"\0")
        value = dtypes.from_little_endian(element, (1,), dtype)
        return np.repeat(value, count).reshape(tuple(shape))


def _all_equal(flat: np.ndarray) -> bool:
    bits = dtypes.bit_patterns(flat)
    if flat.dtype.kind == "c":
        pairs = bits.reshape(-1, 2)
        return bool((pairs == pairs[0]).all())
    return bool((bits == bits[0]).all())
