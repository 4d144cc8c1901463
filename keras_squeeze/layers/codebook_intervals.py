"""Between which thresholds values lie, and what stands there in tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

# So many thresholds are compared one after the other, which compiles to vector
# instructions; more are searched by halves.
_MOST_COMPARED = 32
# So few values are compared with all of them at once, in few operations.
_FEW_VALUES = 256


def look_up(values: Any, thresholds: Any, *tables: Any) -> list[Any]:
    """The entries of tables at the number of thresholds below values.

    Args:
        values: float32 tensor.
        thresholds: float32 tensor of shape `(n, ...)`, ascending along the
            first axis; the others broadcast against `values`.
        *tables: Tensors of shape `(n + 1, ...)`, the others as above.

    Returns:
        List of tensors that broadcast against `values`, one a table.

    Example:
    >>> values = ops.convert_to_tensor([-3.0, 0.0, 0.5, 9.0])
    >>> thresholds = ops.convert_to_tensor([[-1.0], [0.0], [2.0]])
    >>> table = ops.convert_to_tensor([[10], [11], [12], [13]])
    >>> look_up(values, thresholds, table)[0].numpy().tolist()
    [10, 11, 12, 13]
    """
    few = math.prod(values.shape) < _FEW_VALUES
    if thresholds.shape[0] <= _MOST_COMPARED and not few:
        return _compare(values, thresholds, tables)
    place = (_count if few else _search)(values, thresholds)
    return [_entry(table, place) for table in tables]


def _compare(
    values: Any, thresholds: Any, tables: tuple[Any, ...]
) -> list[Any]:
    found = [table[0] for table in tables]
    for i in range(thresholds.shape[0]):
        above = values > thresholds[i]
        found = [
            ops.where(above, table[i + 1], entry)
            for table, entry in zip(tables, found, strict=True)
        ]
    return found


def _count(values: Any, thresholds: Any) -> Any:
    return ops.sum(ops.cast(values[None] > thresholds, "int32"), axis=0)


def _search(values: Any, thresholds: Any) -> Any:
    count = int(thresholds.shape[0])
    half = 2 ** (count.bit_length() - 1)
    beyond = ops.full_like(thresholds[: 2 * half - 1 - count], np.inf)
    thresholds = ops.concatenate([thresholds, beyond])
    place = ops.zeros_like(values, dtype="int32")
    while half:
        probed = _entry(thresholds, place + (half - 1))
        place = place + half * ops.cast(values > probed, "int32")
        half //= 2
    return place


def _entry(table: Any, place: Any) -> Any:
    shape = tuple(int(size) for size in table.shape[1:])
    columns = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    flat = ops.reshape(table, (-1,))
    return ops.take(flat, place * columns.size + columns, axis=0)


def halfway(low: Any, high: Any) -> Any:
    """What lies halfway between two levels, in float32.

    Args:
        low: float32 array or tensor.
        high: float32 array or tensor of the same shape.

    Returns:
        Array or tensor, the same to the bit for both.
    """
    return (low + high) * np.float32(0.5)


def places_between(
    values: NDArray[np.float32], levels: NDArray[np.float32]
) -> NDArray[np.intp]:
    """The nearest of some levels, the lower one of two, on the host.

    Args:
        values: float32 array.
        levels: float32 array of one dimension, ascending.

    Returns:
        Array of integers of the shape of `values`.
    """
    middles = halfway(levels[:-1], levels[1:])
    return np.searchsorted(middles, values, side="left")
