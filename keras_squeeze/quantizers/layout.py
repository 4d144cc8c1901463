"""The canonical two-dimensional layout in which scales are chosen.

Rows are the channels (the product of the kept axes), columns everything else;
a group is a run of columns. One layout for every kernel shape keeps the
quantizers free of shape rules.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError


def normalize_axis(axis: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Sorted, non-negative form of the kept axes.

    Args:
        axis: Integer or tuple of integers, negative ones count from the end.
        rank: Integer. Number of dimensions of the array.

    Returns:
        Ascending tuple without repetitions.

    Raises:
        SqueezeError: If an axis lies outside the array.

    Example:
    >>> normalize_axis((-1,), 4)
    (3,)
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if any(not -rank <= item < rank for item in axes):
        raise SqueezeError(
            f"Expected `axis` inside an array of {rank} dimensions. "
            f"Received: axis={axis}"
        )
    return tuple(sorted({item % rank for item in axes}))


def canonical_shape(
    shape: tuple[int, ...], axis: tuple[int, ...]
) -> tuple[int, int]:
    """Number of channels and of values a channel.

    Args:
        shape: Tuple of integers.
        axis: Ascending tuple of kept axes, `()` for one channel.

    Returns:
        Pair `(channels, rest)`.
    """
    channels = math.prod(shape[item] for item in axis)
    rest = math.prod(n for item, n in enumerate(shape) if item not in axis)
    return channels, rest


def to_canonical(array: NDArray[Any], axis: tuple[int, ...]) -> NDArray[Any]:
    """Reshapes an array to `(channels, rest)`.

    Args:
        array: Array of any shape.
        axis: Ascending tuple of kept axes, `()` for one channel.

    Returns:
        Array of shape `(channels, rest)`, a view where NumPy can make one.

    Example:
    >>> to_canonical(np.arange(6).reshape(2, 3), (1,))
    array([[0, 3],
           [1, 4],
           [2, 5]])
    """
    moved = np.moveaxis(array, axis, range(len(axis)))
    return moved.reshape(canonical_shape(array.shape, axis))


def from_canonical(
    canonical: NDArray[Any], shape: tuple[int, ...], axis: tuple[int, ...]
) -> NDArray[Any]:
    """Undoes `to_canonical`.

    Args:
        canonical: Array of shape `(channels, rest)`.
        shape: Tuple of integers. The shape to go back to.
        axis: Ascending tuple of kept axes, as given to `to_canonical`.

    Returns:
        Contiguous array of shape `shape`.
    """
    kept = tuple(shape[item] for item in axis)
    rest = tuple(n for item, n in enumerate(shape) if item not in axis)
    moved = canonical.reshape(kept + rest)
    return np.ascontiguousarray(np.moveaxis(moved, range(len(axis)), axis))


def group_count(rest: int, group_size: int | None) -> int:
    """Number of groups a channel; the last may be shorter.

    Args:
        rest: Integer. Number of values a channel.
        group_size: Integer, or `None` for one group.

    Returns:
        Integer, at least 1.
    """
    return 1 if group_size is None else max(1, -(-rest // group_size))
