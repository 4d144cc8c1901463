"""The contract of a codec: array to bytes and back, bit for bit.

To add a codec, write one file with one subclass of `Codec`, register it with
`keras_squeeze.codecs.register`, and run `keras_squeeze.testing.check_codec`
on it. A codec's `id` and the meaning of its bytes never change once released:
a new layout is a new `id`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from keras_squeeze.codecs import dtypes
from keras_squeeze.errors import SqueezeError

#: What `decode_many` takes: the bytes, the declared shape, the dtype.
EncodedItem: TypeAlias = tuple[
    "bytes | bytearray | memoryview", Sequence[int], Any
]


class Codec(ABC):
    """Lossless coding of one array.

    A codec knows neither names nor files. The shape and the dtype are kept by
    the caller (an artifact's manifest) and handed to `decode`, which trusts
    neither the bytes nor their length.
    """

    id: ClassVar[str]

    def supports(self, array: np.ndarray) -> bool:
        """Whether `encode` accepts this array.

        Args:
            array: Array of any shape, memory order and byte order.

        Returns:
            Boolean. By default, whether the dtype is one codecs handle.
        """
        return dtypes.is_supported(array.dtype)

    def require_support(self, array: np.ndarray) -> None:
        """Raises unless `supports` accepts the array; for use in `encode`.

        Args:
            array: The array about to be encoded.

        Raises:
            SqueezeError: If the codec does not support it.
        """
        if not self.supports(array):
            raise SqueezeError(
                f"Expected an array that codec {self.id!r} supports. "
                f"Received: dtype={array.dtype}, shape={array.shape}"
            )

    def size_hint(self, array: np.ndarray) -> int:
        """The fewest bytes `encode` may be expected to need.

        `encode_smallest` does not try a codec that promises more bytes than
        it already has.

        Args:
            array: Array that `supports` accepted.

        Returns:
            Integer. 0, the default, when nothing is known without encoding.
        """
        return 0

    @abstractmethod
    def encode(self, array: np.ndarray) -> bytes:
        """Turns an array into bytes.

        Args:
            array: Array that `supports` accepts; any shape, memory order and
                byte order.

        Returns:
            The bytes. An array without elements is `b""`.

        Raises:
            SqueezeError: If `supports` does not accept the array.
        """

    @abstractmethod
    def decode(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
    ) -> np.ndarray:
        """Turns bytes back into the array.

        Args:
            data: Bytes that `encode` made. Anything may have happened to them.
            shape: Sequence of integers, the declared shape.
            dtype: The declared dtype or its name.

        Returns:
            A new C-contiguous, writable array in native byte order.

        Raises:
            CorruptArtifactError: If the bytes are not exactly one encoding of
                an array of that shape and dtype.
        """

    def decode_many(self, items: Sequence[EncodedItem]) -> list[np.ndarray]:
        """Decodes several arrays, at once where that is faster.

        Args:
            items: Sequence of `(data, shape, dtype)`.

        Returns:
            The arrays, in the order of `items`.
        """
        return [self.decode(*item) for item in items]

    @property
    def decodes_scaled(self) -> bool:
        """Whether `decode_scaled` is quicker than decoding and multiplying."""
        return False

    def decode_scaled(
        self,
        data: bytes | bytearray | memoryview,
        shape: Sequence[int],
        dtype: Any,
        scale: np.ndarray,
    ) -> np.ndarray:
        """Decodes integers straight to float32, times their scale.

        Args:
            data: Bytes that `encode` made.
            shape: Sequence of integers, the declared shape.
            dtype: The declared dtype of the integers.
            scale: float32 array that broadcasts to the shape: one value, or
                one for each position of the last axis.

        Returns:
            A new C-contiguous float32 array: each integer as float32, times
            its scale.

        Raises:
            CorruptArtifactError: If the bytes are damaged.
        """
        integers = self.decode(data, shape, dtype)
        scaled: np.ndarray = integers.astype(np.float32)
        scaled *= np.asarray(scale, np.float32)
        return scaled

    def get_config(self) -> dict[str, Any]:
        """The codec as a JSON-able dictionary, understood by `codecs.get`."""
        return {"id": self.id}

    def __repr__(self) -> str:
        arguments = {k: v for k, v in self.get_config().items() if k != "id"}
        inside = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        return f"{type(self).__name__}({inside})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codec):
            return NotImplemented
        return self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(json.dumps(self.get_config(), sort_keys=True))


def describe(
    codec_id: str, expected: str, received: object, shape: object = None
) -> str:
    """The sentence of a `CorruptArtifactError` raised by a codec."""
    where = "" if shape is None else f" of shape {shape}"
    return (
        f"Codec {codec_id!r}: damaged data{where}: expected {expected}. "
        f"Received: {received}"
    )
