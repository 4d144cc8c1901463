"""Whole output channels go: filters of a convolution, units of a layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.axes import inner_axes, output_axes
from keras_squeeze.pruning.grouped import Grouped
from keras_squeeze.pruning.pooling import check_pooling, pooled


class Channel(Grouped):
    """Prunes output channels: the sparsity is rounded to whole ones.

    A channel is one index along the kernel's output axes: a unit of Dense, a
    filter of a convolution, a channel of a depthwise convolution. At least
    one channel stays.

    Args:
        pooling: String. What the scores of a channel become: `"mean"`,
            `"max"`, or `"l2"`, their root mean square. With the criterion
            `"magnitude"` these rank by the L1 norm, the largest weight, and
            the L2 norm. Defaults to `"mean"`.

    Example:
    >>> kernel = np.array([[1.0, 4.0, 2.0], [1.0, 4.0, 3.0]])
    >>> Channel().mask(kernel, 1 / 3)
    array([[False,  True,  True],
           [False,  True,  True]])

    References:
        [Li et al., 2017](https://arxiv.org/abs/1608.08710)
    """

    def __init__(self, pooling: str = "mean") -> None:
        self.pooling = check_pooling(pooling)

    def group_scores(
        self, scores: NDArray[Any], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.floating[Any]]:
        """Pools the scores of each channel.

        Args:
            scores: Array of scores of one kernel.
            channel_axis: Tuple of integers. The kernel's output axes.
                Defaults to `(-1,)`.

        Returns:
            Array of one dimension, a score a channel, without NaN.
        """
        axes = inner_axes(scores.shape, channel_axis)
        count = math.prod(scores.shape[axis] for axis in axes)

        def reduce(ufunc: np.ufunc, array: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(ufunc.reduce(array, axis=axes))

        return pooled(scores, self.pooling, reduce, count)

    def group_sizes(
        self, shape: tuple[int, ...], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.integer[Any]]:
        """Counts the weights of each channel.

        Args:
            shape: Tuple of integers. The kernel's shape.
            channel_axis: Tuple of integers. The kernel's output axes.
                Defaults to `(-1,)`.

        Returns:
            Read-only array of one dimension.
        """
        outer = output_axes(shape, channel_axis)
        channels = math.prod(shape[axis] for axis in outer)
        size = math.prod(shape) // max(1, channels)
        return np.broadcast_to(np.intp(size), channels)

    def _spread(
        self,
        keep: NDArray[np.bool_],
        scores: NDArray[Any],
        channel_axis: tuple[int, ...],
    ) -> NDArray[np.bool_]:
        shape = scores.shape
        outer = output_axes(shape, channel_axis)
        narrow = [n if axis in outer else 1 for axis, n in enumerate(shape)]
        return np.broadcast_to(keep.reshape(narrow), shape).copy()

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal pattern."""
        return {"pooling": self.pooling}
