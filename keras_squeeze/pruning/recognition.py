"""The pattern that a kernel's zeros follow, read off the zeros alone."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GROUPS = (2, 4, 8, 16, 32)
# A pattern counts as meant if fewer than one in a thousand of all masks with
# as many zeros have it.
_LOG_CHANCE = math.log(1e-3)


def recognize(
    weights: NDArray[Any], channel_axis: tuple[int, ...] = (-1,)
) -> str:
    """Names the pattern of a kernel's zeros.

    Patterns are read off the zeros, however they came about: a kernel whose
    values are quantized holds zeros that no mask made, and is then
    `"unstructured"`.

    Args:
        weights: Array. A kernel, or its integer codes.
        channel_axis: Tuple of the axes that index the output channels.
            Defaults to `(-1,)`.

    Returns:
        One of `"dense"` (no zeros), `"empty"` (nothing else), `"channel"`
        (whole output channels), `"n:m"` with its numbers, as `"2:4"` (at
        most `n` of `m` consecutive weights along the reduction axis are
        left), `"block"` with its shape, as `"block 1x4"`, and
        `"unstructured"`.

    Example:
    >>> recognize(np.ones((4, 2)))
    'dense'
    >>> recognize(np.array([[1.0, 0.0]] * 8))
    'channel'
    >>> column = np.array([1, 1, 0, 0, 0, 1, 1, 0] * 32)
    >>> recognize(np.stack([column, 1 - column], axis=1))
    '2:4'
    """
    keep = np.asarray(weights) != 0
    kept = int(np.count_nonzero(keep))
    if kept == keep.size:
        return "dense"
    if kept == 0:
        return "empty"
    axes = tuple(axis % keep.ndim for axis in channel_axis)
    # The kind of mask of which there are fewest says most.
    choices, name = min(_fitting(keep, axes), key=operator.itemgetter(0))
    meant = choices - _log_choices(keep.size, kept) < _LOG_CHANCE
    return name if meant else "unstructured"


def _fitting(
    keep: NDArray[np.bool_], axes: tuple[int, ...]
) -> Iterator[tuple[float, str]]:
    """The patterns that a mask fits, with the logarithm of how many do."""
    yield _channel_masks(keep, axes), "channel"
    yield from _group_masks(keep, axes)
    block = _block_shape(keep)
    yield _block_masks(keep, block), "block " + "x".join(map(str, block))


def _log_choices(total: int, kept: int) -> float:
    """Logarithm of the number of masks that keep `kept` of `total`."""
    parts = math.lgamma(kept + 1) + math.lgamma(total - kept + 1)
    return math.lgamma(total + 1) - parts


def _channel_masks(keep: NDArray[np.bool_], axes: tuple[int, ...]) -> float:
    rest = tuple(axis for axis in range(keep.ndim) if axis not in axes)
    channels = keep.any(axis=rest)
    if not np.array_equal(channels, keep.all(axis=rest)):
        return math.inf
    return _log_choices(channels.size, int(np.count_nonzero(channels)))


def _group_masks(
    keep: NDArray[np.bool_], axes: tuple[int, ...]
) -> Iterator[tuple[float, str]]:
    reduced = [axis for axis in range(keep.ndim) if axis not in axes]
    if not reduced:
        return
    rows = np.moveaxis(keep, reduced[-1], -1)
    for m in _GROUPS:
        whole = rows.shape[-1] // m * m
        if not whole:
            return
        groups = rows[..., :whole].reshape(-1, m)
        n = int(groups.sum(axis=1).max())
        if 0 < n < m:
            ways = sum(math.comb(m, k) for k in range(n + 1))
            tail = keep.size - groups.size
            choices = len(groups) * math.log(ways) + tail * math.log(2)
            yield choices, f"{n}:{m}"


def _block_shape(keep: NDArray[np.bool_]) -> tuple[int, ...]:
    """The largest blocks on a regular grid that are all kept or all zero."""
    lengths = []
    for axis in range(keep.ndim):
        rows = np.moveaxis(keep, axis, 0).reshape(keep.shape[axis], -1)
        borders = np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1
        length = math.gcd(*(int(border) for border in borders))
        lengths.append(length or keep.shape[axis])
    return tuple(lengths)


def _block_masks(keep: NDArray[np.bool_], block: tuple[int, ...]) -> float:
    if math.prod(block) == 1:
        return math.inf
    blocks = keep[tuple(slice(None, None, length) for length in block)]
    return _log_choices(blocks.size, int(np.count_nonzero(blocks)))
