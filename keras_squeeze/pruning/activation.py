"""A weight matters as much as the input it is multiplied with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.statistics import ordered, statistic, zeros_lowest


class Activation(Configured):
    """Scores a weight by its magnitude times that of its input.

    `|w|` is multiplied with the root mean square of the layer's input in the
    weight's row since the masks last changed. The paper compares the scores
    within each output: `Unstructured(per_channel=True)`.

    Example:
    >>> kernel = np.array([[1.0, -2.0], [3.0, 0.5]])
    >>> inputs = np.array([[10.0], [1.0]])
    >>> Activation().scores(kernel, activation=inputs)
    array([[10. , 20. ],
           [ 3. ,  0.5]])

    References:
        [Sun et al., 2023](https://arxiv.org/abs/2306.11695)
    """

    statistics: tuple[str, ...] = ("activation",)

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight its magnitude times that of its input.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: `activation`, the root mean square of the inputs.

        Returns:
            Array of the kernel's shape, float32 or float64.

        Raises:
            SqueezeError: If the statistic is missing.
        """
        inputs = statistic(self, statistics, "activation", kernel.shape)
        scores: NDArray[np.floating[Any]] = np.abs(ordered(kernel)) * inputs
        return zeros_lowest(scores, kernel)
