"""What ranks cost, and at which of them a kernel gets smaller and faster."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.low_rank.decomposition import Decomposition
from keras_squeeze.low_rank.kernel_info import KernelInfo

# At most so many values of each rank are looked at, by the number of ranks.
_POINTS = {1: 128, 2: 16}


def price(
    decomposition: Decomposition, info: KernelInfo, ranks: Sequence[int]
) -> tuple[int, int]:
    """Parameters, and multiply-adds for one position of the output.

    Args:
        decomposition: The `Decomposition`.
        info: The kernel's `KernelInfo`.
        ranks: Sequence of integers.

    Returns:
        Pair of integers.
    """
    shape = info.shape
    parameters = decomposition.parameters(shape, ranks)
    if info.kind == "embedding":
        # The first factor is the table that is looked up.
        table = decomposition.factor_shapes(shape, ranks)[0]
        return parameters, parameters - math.prod(table)
    return parameters, decomposition.macs(shape, ranks, info.strides)


def saves(info: KernelInfo, prices: tuple[int, int], min_saving: float) -> bool:
    """Whether factors take less than the kernel in every respect.

    Args:
        info: The kernel's `KernelInfo`.
        prices: Pair of integers, as `price` returns it.
        min_saving: Float. The least share of its parameters to save.

    Returns:
        Boolean. Multiply-adds do not count for an embedding.
    """
    parameters, macs = prices
    faster = info.kind == "embedding" or macs < info.macs
    least = parameters <= (1 - min_saving) * info.weights_to_beat
    return faster and least and parameters < info.weights_to_beat


@dataclasses.dataclass(frozen=True, eq=False)
class PriceList:
    """What the ranks of a method that are worth it cost.

    Args:
        ranks: Integer array of shape `(options, rank_count)`.
        parameters: Integer array of shape `(options,)`.
        macs: Integer array of shape `(options,)`, for one position of the
            output.
    """

    ranks: NDArray[np.int64]
    parameters: NDArray[np.int64]
    macs: NDArray[np.int64]


def price_list(
    decomposition: Decomposition, info: KernelInfo, min_saving: float
) -> PriceList:
    """The ranks at which a method saves, and their prices.

    Args:
        decomposition: A `Decomposition` that applies to the kernel.
        info: The kernel's `KernelInfo`.
        min_saving: Float. The least share of its parameters to save.

    Returns:
        `PriceList`, of no options if there is nothing to save.
    """
    shape, strides = tuple(info.shape), info.strides
    strides = None if strides is None else tuple(strides)
    return _price_list(decomposition, shape, info.kind, strides, min_saving)


# Most networks repeat a few shapes, and it depends on nothing else.
@functools.lru_cache(maxsize=256)
def _price_list(
    decomposition: Decomposition,
    shape: tuple[int, ...],
    kind: str,
    strides: tuple[int, ...] | None,
    min_saving: float,
) -> PriceList:
    info = KernelInfo("", shape, kind, strides)

    def fits(ranks: tuple[int, ...]) -> bool:
        return saves(info, price(decomposition, info, ranks), min_saving)

    ranks = list(rank_grid(decomposition.max_ranks(shape), fits))
    prices = [price(decomposition, info, each) for each in ranks]
    parameters, macs = np.array(prices, np.int64).reshape(-1, 2).T
    count = decomposition.rank_count
    grid = np.array(ranks, np.int64).reshape(-1, count)
    return PriceList(grid, parameters, macs)


def rank_grid(
    limits: tuple[int, ...], fits: Callable[[tuple[int, ...]], bool]
) -> Iterator[tuple[int, ...]]:
    """Ranks that fit, all of them where they are few.

    The last rank is always tried at the largest value that fits.

    Args:
        limits: Tuple of integers. The largest rank of each.
        fits: Callable from ranks to a boolean that never becomes true again
            as a rank grows.

    Yields:
        Tuple of integers.

    Example:
    >>> list(rank_grid((8,), lambda ranks: ranks[0] <= 3))
    [(1,), (2,), (3,)]
    """
    points = _POINTS.get(len(limits), 8)
    grids = [_spread(limit, points) for limit in limits[:-1]]
    for first in itertools.product(*grids):
        most = _largest(fits, first, limits[-1])
        for last in _spread(most, points):
            yield (*first, last)


def _spread(limit: int, points: int) -> list[int]:
    """Integers from 1 to the limit, denser where they are small."""
    if limit <= points:
        return list(range(1, limit + 1))
    even = np.linspace(1, limit, points // 2)
    ratios = np.geomspace(1, limit, points - points // 2)
    return sorted({round(float(x)) for x in (*even, *ratios)})


def _largest(
    fits: Callable[[tuple[int, ...]], bool], first: tuple[int, ...], limit: int
) -> int:
    """The largest last rank up to the limit that fits, 0 if none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if fits((*first, middle)) else (low, middle - 1)
        )
    return low
