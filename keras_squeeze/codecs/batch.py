"""Decoding many tensors at once, whatever codecs wrote them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_squeeze.codecs.codec import Codec, EncodedItem


def decode_all(
    items: Sequence[tuple[Codec, EncodedItem]],
) -> list[np.ndarray]:
    """Decodes several arrays, one `decode_many` for each codec.

    Args:
        items: Sequence of `(codec, (data, shape, dtype))`.

    Returns:
        The arrays, in the order of `items`.

    Raises:
        CorruptArtifactError: If the bytes of any item are damaged.
    """
    groups: dict[Codec, list[int]] = {}
    for index, (codec, _) in enumerate(items):
        groups.setdefault(codec, []).append(index)
    out: dict[int, np.ndarray] = {}
    for codec, indices in groups.items():
        arrays = codec.decode_many([items[i][1] for i in indices])
        out.update(zip(indices, arrays, strict=True))
    return [out[i] for i in range(len(items))]
