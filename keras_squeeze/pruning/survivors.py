"""How many weights survive in every kernel, whatever the sparsity."""

from __future__ import annotations

import math
import numbers
from typing import Any

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning import ranking
from keras_squeeze.pruning.patterns import GroupedPattern, Pattern


def check_min_weights(value: Any) -> int:
    """Returns `value` as an integer.

    Args:
        value: Integer of at least 1.

    Returns:
        The integer.

    Raises:
        SqueezeError: If it is not one.
    """
    integral = isinstance(value, numbers.Integral)
    if not integral or isinstance(value, bool) or value < 1:
        raise SqueezeError(
            "Expected `min_weights` to be an integer of at least 1. "
            f"Received: {value!r}"
        )
    return int(value)


def most_gone(
    pattern: Pattern,
    shape: tuple[int, ...],
    channel_axis: tuple[int, ...],
    min_weights: int,
) -> int:
    """The most weights that may be asked to go, so that enough survive.

    Args:
        pattern: The `Pattern` that will make the mask.
        shape: Tuple of integers. The kernel's shape.
        channel_axis: Tuple of integers. The kernel's output axes.
        min_weights: Integer. How many survive; all, if there are fewer.

    Returns:
        Integer from 0 to the size of the kernel.

    Raises:
        SqueezeError: If the pattern does not fit the shape.
    """
    spare = max(0, math.prod(shape) - min_weights)
    # One weight survives whatever is asked for.
    if min_weights == 1 or not isinstance(pattern, GroupedPattern):
        return spare
    sizes = pattern.group_sizes(shape, channel_axis)
    size = ranking.common_size(sizes)
    if size is not None:
        return spare // size * size
    # The nearest group may take half its size more than was asked for.
    return max(0, spare - int(sizes.max(initial=0)) // 2)
