"""The smallest encoding of an array among several codecs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_squeeze.codecs.codec import Codec
from keras_squeeze.errors import SqueezeError


def smallest(
    array: np.ndarray, candidates: Sequence[Codec]
) -> tuple[Codec, bytes]:
    """Encodes with every candidate that could win; the smallest wins.

    Args:
        array: Array to encode.
        candidates: Sequence of `Codec`, the cheapest to decode first: of two
            encodings of one size the earlier is taken.

    Returns:
        The codec and the bytes.

    Raises:
        SqueezeError: If no candidate supports the array.
    """
    able = [codec for codec in candidates if codec.supports(array)]
    best: tuple[Codec, bytes] | None = None
    # The most promising first, so that the others need not be tried.
    hints = [codec.size_hint(array) for codec in able]
    rank = {id(codec): place for place, codec in enumerate(able)}
    for hint, codec in sorted(
        zip(hints, able, strict=True), key=lambda pair: pair[0]
    ):
        if best is not None and hint > len(best[1]):
            continue
        data = codec.encode(array)
        key = (len(data), rank[id(codec)])
        if best is None or key < (len(best[1]), rank[id(best[0])]):
            best = codec, data
    if best is None:
        raise SqueezeError(
            "Expected an array that one of the codecs "
            f"{[c.id for c in candidates]} supports. "
            f"Received: dtype={array.dtype}, shape={array.shape}"
        )
    return best
