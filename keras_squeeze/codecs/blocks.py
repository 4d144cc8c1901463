"""Working on large arrays block after block.

What a codec makes on the way is often several times as large as the elements
it looks at. Made for a block at a time it stays in the cache, and memory holds
little more than the array and its encoding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

#: Elements of a block.
BLOCK = 1 << 18


def blocks(count: int) -> Iterator[slice]:
    """Ranges that follow each other and cover so many elements.

    Args:
        count: Integer.

    Yields:
        Slices of `BLOCK` elements, the last one perhaps of fewer.
    """
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def tiles(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Parts of an array of any shape, each contiguous in C order.

    Args:
        shape: Sequence of integers, none of them 0.

    Yields:
        Tuples of a slice an axis, in C order; at most `BLOCK` elements each,
        but whole ones along the last axes if these are fewer.

    Example:
    >>> list(tiles((2, 3)))
    [(slice(0, 2, None), slice(0, 3, None))]
    """
    shape = tuple(shape)
    cut = 0
    while cut + 1 < len(shape) and math.prod(shape[cut + 1 :]) > BLOCK:
        cut += 1
    rest = tuple(slice(0, length) for length in shape[cut + 1 :])
    step = max(1, BLOCK // math.prod(shape[cut + 1 :]))
    for before in np.ndindex(*shape[:cut]):
        leading = tuple(slice(place, place + 1) for place in before)
        for start in range(0, shape[cut], step):
            stop = min(start + step, shape[cut])
            yield (*leading, slice(start, stop), *rest)


def tiles_of(matrix: np.ndarray) -> Iterator[tuple[slice, ...]]:
    """Parts of a matrix, each contiguous in memory or nearly so.

    Args:
        matrix: Array of two dimensions, in C or in Fortran order, with or
            without elements.

    Yields:
        Pairs of slices, as `tiles` gives them.
    """
    if matrix.size and matrix.flags.f_contiguous:
        yield from (tile[::-1] for tile in tiles(matrix.shape[::-1]))
    elif matrix.size:
        yield from tiles(matrix.shape)


def count_values(values: np.ndarray, least: int = 1) -> np.ndarray:
    """How often each value occurs.

    Args:
        values: One-dimensional array of integers, none negative.
        least: Integer. How many counts there are at least. Defaults to `1`.

    Returns:
        int64 array of as many counts as the greatest value asks for.

    Example:
    >>> count_values(np.array([1, 3, 3], "uint8")).tolist()
    [0, 1, 0, 2]
    """
    size = max(int(values.max(initial=0)) + 1, least)
    counts = np.zeros(size, np.int64)
    for block in blocks(values.size):
        # Cast to 64 bits in there, which most dtypes are not.
        part = values[block].astype(np.intp, copy=False)
        counts += np.bincount(part, minlength=size)
    return counts
