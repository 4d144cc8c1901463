"""What codecs of plain bytes share: the array's bytes in, its bytes out.

They compress the little-endian bytes that `raw` writes. With `shuffle=True`
these come in planes, all first bytes of the elements, then all second ones,
which suits floats. An array without elements is no bytes at all.

Libraries are imported when first used; those that do not come with Python are
the extra `keras_squeeze[codecs]`.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.codecs.codec import Codec, describe
from keras_squeeze.codecs.raw import check_bool
from keras_squeeze.errors import CorruptArtifactError, SqueezeError


class ByteCodec(Codec):
    """Base of the codecs that hand an array's bytes to a compressor.

    A subclass says how bytes are compressed and decompressed, and which
    levels there are.

    Args:
        level: Integer, how hard to try, in `levels`. Defaults to the
            greatest.
        shuffle: Boolean. Whether to put the bytes of the elements in planes.
            Defaults to `False`.
    """

    #: The library to import, `None` where Python brings it.
    library: ClassVar[str | None] = None
    #: The least and the greatest level.
    levels: ClassVar[tuple[int, int]] = (0, 0)

    def __init__(self, level: int | None = None, shuffle: bool = False) -> None:
        low, high = self.levels
        self.level = high if level is None else level
        self.shuffle = bool(shuffle)
        if not isinstance(self.level, int) or not low <= self.level <= high:
            raise SqueezeError(
                f"Codec {self.id!r}: expected a level in {low}..{high}. "
                f"Received: {level!r}"
            )

    @classmethod
    def is_available(cls) -> bool:
        """Whether the library that this codec needs is installed."""
        return not cls.library or bool(importlib.util.find_spec(cls.library))

    def encode(self, array: np.ndarray) -> bytes:
        """Compresses the elements in C order."""
        self.require_support(array)
        if array.size == 0:
            return b""
        plain = dtypes.little_endian_bytes(array)
        if self.shuffle:
            plain = _transposed(plain, dtypes.word_size(array.dtype), True)
        return bytes(self._compress(plain))

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Decompresses to exactly the declared size; see `Codec.decode`."""
        dtype = dtypes.dtype_from_name(dtype)
        expected = dtypes.element_count(shape, dtype) * dtype.itemsize
        if bool(expected) != bool(len(data)):
            raise self._damaged(f"an encoding of {expected} bytes", len(data))
        plain = self._decompress(bytes(data), expected) if expected else b""
        if len(plain) != expected:
            raise self._damaged(f"exactly {expected} bytes", len(plain))
        if self.shuffle:
            plain = _transposed(plain, dtypes.word_size(dtype), False)
        check_bool(plain, dtype, self.id)
        return dtypes.from_little_endian(plain, shape, dtype)

    @abstractmethod
    def _compress(self, plain: bytes) -> bytes:
        """Compresses some bytes, at least one."""

    @abstractmethod
    def _decompress(self, data: bytes, size: int) -> bytes:
        """Decompresses to `size` bytes, in memory bounded by that.

        Raises:
            CorruptArtifactError: If the bytes are damaged, or are followed by
                others.
        """

    def _import(self) -> Any:
        try:
            return importlib.import_module(self.library or "")
        except ImportError as error:
            raise SqueezeError(
                f"Codec {self.id!r}: expected the library {self.library!r}, "
                "which `pip install keras_squeeze[codecs]` brings. "
                f"Received: {error}"
            ) from error

    def _damaged(self, expected: str, received: object) -> CorruptArtifactError:
        return CorruptArtifactError(describe(self.id, expected, received))

    def get_config(self) -> dict[str, Any]:
        """The id, the level where there are several, and the shuffle."""
        config: dict[str, Any] = {"id": self.id}
        if self.levels[0] != self.levels[1]:
            config["level"] = self.level
        return {**config, "shuffle": True} if self.shuffle else config


def _transposed(plain: bytes, width: int, split: bool) -> bytes:
    shape = (-1, width) if split else (width, -1)
    return np.frombuffer(plain, np.uint8).reshape(shape).T.tobytes()
