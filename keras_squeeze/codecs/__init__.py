"""Codecs: an array to bytes and back, bit for bit.

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
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_squeeze.codecs.batch import decode_all
from keras_squeeze.codecs.bitpack import Bitpack
from keras_squeeze.codecs.brotli import Brotli
from keras_squeeze.codecs.byte_planes import BytePlanes
from keras_squeeze.codecs.bzip2 import Bzip2
from keras_squeeze.codecs.class_rans import ClassRans
from keras_squeeze.codecs.codec import Codec, EncodedItem
from keras_squeeze.codecs.constant import Constant
from keras_squeeze.codecs.context_mixing import ContextMixing
from keras_squeeze.codecs.deflate import Deflate
from keras_squeeze.codecs.dtypes import dtype_from_name
from keras_squeeze.codecs.float_fields import FloatFields
from keras_squeeze.codecs.huffman import Huffman
from keras_squeeze.codecs.lz4 import Lz4
from keras_squeeze.codecs.lzo import Lzo
from keras_squeeze.codecs.lzw import Lzw
from keras_squeeze.codecs.profiles import PROFILES, fast_codecs
from keras_squeeze.codecs.rans import Rans
from keras_squeeze.codecs.raw import Raw
from keras_squeeze.codecs.selection import smallest
from keras_squeeze.codecs.snappy import Snappy
from keras_squeeze.codecs.sparse import Sparse
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.codecs.xz import Xz
from keras_squeeze.codecs.zstd import Zstd
from keras_squeeze.errors import UnknownIdentifierError
from keras_squeeze.registry import Registry

__all__ = [
    "PROFILES",
    "Bitpack",
    "Brotli",
    "BytePlanes",
    "Bzip2",
    "ClassRans",
    "Codec",
    "Constant",
    "ContextMixing",
    "Deflate",
    "EncodedItem",
    "FloatFields",
    "Huffman",
    "Lz4",
    "Lzo",
    "Lzw",
    "Rans",
    "Raw",
    "Snappy",
    "Sparse",
    "Trellis",
    "Xz",
    "Zstd",
    "compare",
    "decode_all",
    "dtype_from_name",
    "encode_smallest",
    "get",
    "names",
    "register",
]

if TYPE_CHECKING:
    from keras_squeeze.codecs.comparison import compare as compare

_registry: Registry[Codec] = Registry("codec")

_BUILT_IN: tuple[type[Codec], ...] = (
    Raw,
    Constant,
    Bitpack,
    Sparse,
    ClassRans,
    FloatFields,
    ContextMixing,
    Rans,
    BytePlanes,
    Huffman,
    Lzw,
    Deflate,
    Zstd,
    Brotli,
    Xz,
    Bzip2,
    Lz4,
    Snappy,
    Lzo,
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
            decode first. `raw` is always added. Defaults to those of the
            profile `"fast"`; others must be asked for, because files that use
            them need them to be read.

    Returns:
        The codec and the bytes, never more than the array's own.

    Raises:
        SqueezeError: If the dtype is not supported.
    """
    array = np.asarray(array)
    if candidates is None:
        candidates = fast_codecs(array)
    chosen = [Raw(), *(get(candidate) for candidate in candidates)]
    return smallest(array, chosen)


def __getattr__(name: str) -> Any:
    # Reading a file needs no comparison of codecs.
    if name == "compare":
        from keras_squeeze.codecs.comparison import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
