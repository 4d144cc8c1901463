"""Blocks: the values that share a scale, as rows of an array."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.layout import group_count

# A slice of this many values and its temporaries stays in the cache.
_SLICE_VALUES = 1 << 16


class BlockCodes(NamedTuple):
    """What a quantizer makes of blocks.

    Args:
        codes: Integer array of shape `(blocks, size)`.
        scale: float32 array of shape `(blocks,)`.
        zero_point: Optional int16 array of shape `(blocks,)`. Defaults to
            `None`.
    """

    codes: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int16] | None = None


def split_blocks(
    canonical: NDArray[np.float32], group_size: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cuts channels into blocks.

    Args:
        canonical: float32 array of shape `(channels, rest)`.
        group_size: Integer, the number of values a block; `None` for all of a
            channel.

    Returns:
        Pair of a float32 array of shape `(blocks, size)`, the last block of
        each channel padded with zeros, and an int64 array of shape
        `(blocks,)`: how many values a block has before its padding.

    Example:
    >>> blocks, counts = split_blocks(np.ones((1, 3), "float32"), 2)
    >>> blocks.tolist(), counts.tolist()
    ([[1.0, 1.0], [1.0, 0.0]], [2, 1])
    """
    channels, rest = canonical.shape
    groups = group_count(rest, group_size)
    size = rest if group_size is None else group_size
    padding = groups * size - rest
    if padding:
        canonical = np.pad(canonical, ((0, 0), (0, padding)))
    counts = np.full((channels, groups), size, np.int64)
    counts[:, -1] -= padding
    return canonical.reshape(channels * groups, size), counts.reshape(-1)


def join_blocks(blocks: NDArray[Any], channels: int, rest: int) -> NDArray[Any]:
    """Undoes `split_blocks`.

    Args:
        blocks: Array of shape `(blocks, size)`.
        channels: Integer.
        rest: Integer. Number of values a channel.

    Returns:
        Array of shape `(channels, rest)`.
    """
    # Not -1: an array without channels has no size to infer it from.
    per_channel = blocks.size // max(1, channels)
    return blocks.reshape(channels, per_channel)[:, :rest]


def block_slices(shape: tuple[int, ...]) -> list[slice]:
    """Slices of rows that fit the cache, for work with many temporaries.

    Args:
        shape: Pair of integers, the shape `(blocks, size)`.

    Returns:
        List of slices that cover all rows.
    """
    rows = max(1, _SLICE_VALUES // max(1, shape[1]))
    return [slice(start, start + rows) for start in range(0, shape[0], rows)]
