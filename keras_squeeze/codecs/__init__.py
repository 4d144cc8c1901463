"""Codecs: an array to bytes and back, bit for bit, in NumPy alone.

Example:
>>> import numpy as np
>>> from keras_squeeze import codecs
>>> codes = np.zeros((100, 100), "int8")
>>> codes[::5] = np.arange(100) % 7
>>> codec, data = codecs.encode_smallest(codes)
>>> bool((codec.decode(data, codes.shape, "int8") == codes).all())
True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_squeeze.codecs.batch import decode_all
from keras_squeeze.codecs.bitpack import Bitpack
from keras_squeeze.codecs.byte_planes import BytePlanes
from keras_squeeze.codecs.codec import Codec, EncodedItem
from keras_squeeze.codecs.constant import Constant
from keras_squeeze.codecs.deflate import Deflate
from keras_squeeze.codecs.dtypes import dtype_from_name
from keras_squeeze.codecs.rans import Rans
from keras_squeeze.codecs.raw import Raw
from keras_squeeze.codecs.selection import smallest
from keras_squeeze.codecs.sparse import Sparse
from keras_squeeze.errors import UnknownIdentifierError
from keras_squeeze.registry import Registry

__all__ = [
    "Bitpack",
    "BytePlanes",
    "Codec",
    "Constant",
    "Deflate",
    "EncodedItem",
    "Rans",
    "Raw",
    "Sparse",
    "decode_all",
    "dtype_from_name",
    "encode_smallest",
    "get",
    "names",
    "register",
]

_LARGE_BYTES = 1 << 16

_registry: Registry[Codec] = Registry("codec")

# Cheapest to decode first: of two encodings of one size the earlier wins.
_BUILT_IN: tuple[type[Codec], ...] = (
    Raw,
    Constant,
    Bitpack,
    Sparse,
    Rans,
    BytePlanes,
    Deflate,
)


def register(codec_class: Callable[..., Codec]) -> Callable[..., Codec]:
    """Makes a codec known under its `id`; usable as a decorator.

    Args:
        codec_class: Subclass of `Codec`.

    Returns:
        The class.

    Raises:
        ValueError: If the `id` is taken.
    """
    _registry.register(codec_class.id, codec_class)  # type: ignore[attr-defined]
    return codec_class


for _codec_class in _BUILT_IN:
    register(_codec_class)


def names() -> list[str]:
    """The ids of all registered codecs."""
    return sorted(_registry)


def get(identifier: str | Mapping[str, Any] | Codec) -> Codec:
    """Finds a codec.

    Args:
        identifier: String, the codec's id; or its config, a dictionary with
            an `"id"`; or a `Codec`, returned as it is.

    Returns:
        The codec.

    Raises:
        UnknownIdentifierError: If there is no such codec.

    Example:
    >>> get({"id": "rans"})
    Rans()
    """
    if isinstance(identifier, Codec):
        return identifier
    if isinstance(identifier, str):
        return _registry.create(identifier)
    if isinstance(identifier, Mapping) and isinstance(
        identifier.get("id"), str
    ):
        config = {k: v for k, v in identifier.items() if k != "id"}
        return _registry.create(identifier["id"], config)
    raise UnknownIdentifierError(
        "Expected a codec, its id, or a config with an 'id'. "
        f"Received: {identifier!r}"
    )


def encode_smallest(
    array: np.ndarray,
    candidates: Sequence[str | Mapping[str, Any] | Codec] | None = None,
) -> tuple[Codec, bytes]:
    """Encodes an array with the codec that makes it smallest.

    Codecs that promise more bytes than another one needed are not tried.

    Args:
        array: Array of any supported dtype and shape.
        candidates: Optional sequence of what `get` takes, the cheapest to
            decode first. `raw` is always added. Defaults to the codecs of
            this package; registered ones must be asked for, because files
            that use them need them to be read.

    Returns:
        The codec and the bytes, never more than the array's own.

    Raises:
        SqueezeError: If the dtype is not supported.
    """
    array = np.asarray(array)
    if candidates is None:
        chosen = [
            codec_class()
            for codec_class in _BUILT_IN
            if codec_class is not Deflate or not _is_large_float(array)
        ]
    else:
        chosen = [Raw(), *(get(candidate) for candidate in candidates)]
    return smallest(array, chosen)


def _is_large_float(array: np.ndarray) -> bool:
    # Deflate is slow on mantissas, and byte planes use it where it helps.
    return array.dtype.kind in "fcV" and array.nbytes > _LARGE_BYTES
