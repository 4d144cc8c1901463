"""Weights whose removal changes the loss least, to first order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.statistics import statistic, zeros_lowest


class Taylor(Configured):
    """Scores a weight by the loss that its removal costs, to first order.

    Setting a weight to zero changes the loss by about `-g * w`. The product
    is averaged over the steps since the masks last changed, sign and all, and
    the absolute value of the mean is the score: in units of the loss, so that
    scores of different kernels can be compared. Single weights rank as by the
    square, the other form in use.

    Example:
    >>> kernel, product = np.array([1.0, 2.0]), np.array([0.1, -0.3])
    >>> Taylor().scores(kernel, gradient_times_weight=product)
    array([0.1, 0.3])

    References:
        [Molchanov et al., 2019](https://arxiv.org/abs/1906.10771)
    """

    statistics: tuple[str, ...] = ("gradient_times_weight",)

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight the change of the loss, without its sign.

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
        return zeros_lowest(np.abs(product), kernel)
