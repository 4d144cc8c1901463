"""The plain codec: the elements as they lie in memory.

Layout: the elements in C order, each little-endian (a complex number is its
real part and its imaginary part); `bool` is one byte, 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.codec import Codec, describe
from keras_squeeze.errors import CorruptArtifactError


class Raw(Codec):
    """Little-endian bytes, not compressed.

    Example:
    >>> import numpy as np
    >>> Raw().encode(np.array([1, 2], "int16")).hex()
    '01000200'
    """

    id: ClassVar[str] = "raw"

    def size_hint(self, array: np.ndarray) -> int:
        """The exact size."""
        return array.nbytes

    def encode(self, array: np.ndarray) -> bytes:
        """Writes the elements in C order."""
        self.require_support(array)
        return dtypes.little_endian_bytes(array)

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Reads the elements; see `Codec.decode`."""
        dtype = dtypes.dtype_from_name(dtype)
        expected = dtypes.element_count(shape, dtype) * dtype.itemsize
        if len(data) != expected:
            raise CorruptArtifactError(
                describe(self.id, f"{expected} bytes", len(data), shape)
            )
        check_bool(data, dtype, self.id)
        return dtypes.from_little_endian(data, shape, dtype)


def check_bool(
    data: bytes | bytearray | memoryview, dtype: np.dtype[Any], codec_id: str
) -> None:
    """Raises if bytes that become a `bool` array are other than 0 and 1."""
    if dtype.kind == "b" and len(data):
        greatest = int(np.frombuffer(data, np.uint8).max())
        if greatest > 1:
            raise CorruptArtifactError(
                describe(codec_id, "booleans 0 or 1", greatest)
            )
