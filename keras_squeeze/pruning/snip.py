"""Connection sensitivity: what can go before training begins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.statistics import ordered, statistic, zeros_lowest


class SNIP(Configured):
    """Scores a weight by `|g * w|`, its connection's sensitivity.

    Meant for pruning once, at the start, with the gradient of a few batches:
    `OneShot` a few steps after the first, and the allocation `"global"`, as
    in the paper. The paper divides the scores by their sum over the whole
    network, which changes no rank and is left out: divided by the sum of each
    kernel, scores of different kernels could no longer be compared.

    Example:
    >>> kernel, gradient = np.array([1.0, -2.0]), np.array([0.5, 0.1])
    >>> SNIP().scores(kernel, gradient=gradient)
    array([0.5, 0.2])

    References:
        [Lee et al., 2019](https://arxiv.org/abs/1810.02340)
    """

    statistics: tuple[str, ...] = ("gradient",)

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight its sensitivity.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: `gradient`, the mean gradient.

        Returns:
            Array of the kernel's shape, float32 or float64.

        Raises:
            SqueezeError: If the statistic is missing.
        """
        gradient = statistic(self, statistics, "gradient", kernel.shape)
        scores: NDArray[np.floating[Any]] = np.abs(gradient * ordered(kernel))
        return zeros_lowest(scores, kernel)
