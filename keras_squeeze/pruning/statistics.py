"""What criteria and regrowths are given besides the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError


def statistic(
    user: object,
    statistics: Mapping[str, NDArray[Any]],
    name: str,
    shape: tuple[int, ...],
) -> NDArray[np.floating[Any]]:
    """Takes a statistic by name, in a dtype that orders fast.

    Args:
        user: The criterion or regrowth that needs it, for messages.
        statistics: Mapping of the arrays at hand.
        name: String. The statistic that is needed.
        shape: Tuple of integers. The kernel's shape.

    Returns:
        Read-only view or copy as float32 or float64, of the kernel's shape.

    Raises:
        SqueezeError: If it is missing or does not broadcast to the shape.
    """
    if statistics.get(name) is None:
        raise SqueezeError(
            f"Expected the statistic {name!r}, which {user!r} needs, as an "
            f"array that broadcasts to the kernel's shape {shape}. "
            f"Received: {sorted(statistics)}"
        )
    values = ordered(np.asarray(statistics[name]))
    try:
        return np.broadcast_to(values, shape)
    except ValueError as error:
        raise SqueezeError(
            f"Expected the statistic {name!r} of {user!r} to broadcast to the "
            f"kernel's shape {shape}. Received: shape {values.shape}"
        ) from error


def ordered(array: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """The array as float32, or float64 if it is that.

    Half-precision types order slowly or, as bfloat16, not at all.

    Args:
        array: Array of numbers.

    Returns:
        The array itself where its dtype is one of the two, else a copy.
    """
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return array.astype(dtype, copy=False)


def zeros_lowest(
    scores: NDArray[np.floating[Any]], kernel: NDArray[Any]
) -> NDArray[np.floating[Any]]:
    """Gives the weights that are zero the score minus infinity, in place.

    Args:
        scores: Array of scores of the kernel's shape, changed in place.
        kernel: Array of weights.

    Returns:
        `scores`.
    """
    np.copyto(scores, -np.inf, where=kernel == 0)
    return scores
