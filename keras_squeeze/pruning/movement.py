"""Weights that training moves towards zero matter least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.statistics import statistic, zeros_lowest


class Movement(Configured):
    """Scores a weight by how far training moves it away from zero.

    Gradient descent moves a weight away from zero where `-g * w` is positive.
    The mean of that product since the masks last changed is the score, with
    its sign: a large weight on its way to zero goes before a small one that
    grows. Made for fine-tuning, where magnitudes tell of the task learnt
    before.

    Example:
    >>> kernel, product = np.array([1.0, -2.0]), np.array([0.1, -0.3])
    >>> Movement().scores(kernel, gradient_times_weight=product)
    array([-0.1,  0.3])

    References:
        [Sanh et al., 2020](https://arxiv.org/abs/2005.07683)
    """

    statistics: tuple[str, ...] = ("gradient_times_weight",)

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight its movement away from zero.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: `gradient_times_weight`, the mean of g · w.

        Returns:
            Array of the kernel's shape, float32 or float64.

        Raises:
            SqueezeError: If the statistic is missing.
        """
        name = "gradient_times_weight"
        product = statistic(self, statistics, name, kernel.shape)
        return zeros_lowest(-product, kernel)
