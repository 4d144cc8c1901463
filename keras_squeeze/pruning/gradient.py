"""Weights with small gradients matter least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.statistics import statistic, zeros_lowest


class GradientL1(Configured):
    """Scores a weight by the mean absolute value of its gradient.

    The mean is over the steps since the masks last changed. Weights that are
    zero come last whatever their gradient, so that those pruned stay pruned;
    to let them come back is the business of a regrowth.

    Example:
    >>> kernel, gradient = np.array([1.0, 0.0]), np.array([0.5, 2.0])
    >>> GradientL1().scores(kernel, gradient_l1=gradient)
    array([ 0.5, -inf])

    References:
        [Blalock et al., 2020](https://arxiv.org/abs/2003.03033)
    """

    statistics: tuple[str, ...] = ("gradient_l1",)

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight its mean gradient.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: The array that `statistics` names.

        Returns:
            Array of the kernel's shape, float32 or float64.

        Raises:
            SqueezeError: If the statistic is missing.
        """
        (name,) = self.statistics
        gradient = statistic(self, statistics, name, kernel.shape)
        return zeros_lowest(gradient.copy(), kernel)


class GradientL2(GradientL1):
    """Scores a weight by the root mean square of its gradient.

    As `GradientL1`, but single large gradients count for more.

    Example:
    >>> kernel, gradient = np.array([1.0, 0.0]), np.array([0.5, 2.0])
    >>> GradientL2().scores(kernel, gradient_l2=gradient)
    array([ 0.5, -inf])

    References:
        [Blalock et al., 2020](https://arxiv.org/abs/2003.03033)
    """

    statistics: tuple[str, ...] = ("gradient_l2",)
