"""A channel matters as much as the normalization after it lets through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.statistics import statistic, zeros_lowest


class BatchNormScale(Configured):
    """Scores all weights of a channel by the scale of its normalization.

    The scale is `|gamma|` of the normalization layer that follows. As it is
    one number a channel, it goes with the pattern `"channel"`.

    Example:
    >>> kernel, gamma = np.ones((2, 3)), np.array([0.1, 2.0, 1.0])
    >>> BatchNormScale().scores(kernel, scale=gamma)
    array([[0.1, 2. , 1. ],
           [0.1, 2. , 1. ]])

    References:
        [Liu et al., 2017](https://arxiv.org/abs/1708.06519)
    """

    statistics: tuple[str, ...] = ("scale",)

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight the scale of its channel.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: `scale`, the normalization's scales.

        Returns:
            Array of the kernel's shape, float32 or float64.

        Raises:
            SqueezeError: If the statistic is missing.
        """
        scale = statistic(self, statistics, "scale", kernel.shape)
        return zeros_lowest(np.abs(scale), kernel)
