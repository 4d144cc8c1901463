"""Weights near zero matter least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.statistics import ordered


class Magnitude(Configured):
    """Scores a weight by its absolute value.

    Zeros have the lowest score there is: weights once pruned stay pruned
    while the sparsity grows, and the mask can be read off the weights. Pooled
    over a group it is the group's L1 norm, divided by the group's size.

    Example:
    >>> Magnitude().scores(np.array([0.5, -2.0, 0.0]))
    array([0.5, 2. , 0. ])

    References:
        [Han et al., 2015](https://arxiv.org/abs/1506.02626)
    """

    statistics: tuple[str, ...] = ()

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight its absolute value.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: Not used.

        Returns:
            Array of the kernel's shape, float32 or float64.
        """
        scores: NDArray[np.floating[Any]] = np.abs(ordered(kernel))
        return scores


class WeightL2(Configured):
    """Scores a weight by its square.

    Single weights rank as by `Magnitude`; blocks and channels rank by their
    L2 norm instead of their L1 norm.

    Example:
    >>> WeightL2().scores(np.array([0.5, -2.0, 0.0]))
    array([0.25, 4.  , 0.  ])

    References:
        [Li et al., 2017](https://arxiv.org/abs/1608.08710)
    """

    statistics: tuple[str, ...] = ()

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight its square.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: Not used.

        Returns:
            Array of the kernel's shape, float32 or float64.
        """
        scores: NDArray[np.floating[Any]] = np.square(ordered(kernel))
        return scores
