"""Several calls at once, where the work releases the GIL.

The compiled kernels do, and so do the larger NumPy operations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """The number of cores this process may run on, at least 1."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        # Only Linux tells; elsewhere the machine's cores are a good guess.
        return os.cpu_count() or 1


def map_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int | None = None,
) -> list[Result]:
    """Applies a function to all items, on as many threads as there are cores.

    Args:
        function: Callable of one item. An exception it raises is raised here,
            that of the earliest item first.
        items: Sequence of items.
        threads: Optional integer, how many threads at most. Defaults to
            `usable_cores()`.

    Returns:
        List of results, in the order of `items`.

    Example:
    >>> map_threads(len, ["a", "bc"])
    [1, 2]
    """
    count = min(threads or usable_cores(), len(items))
    if count < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, items))
