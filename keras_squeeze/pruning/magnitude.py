"""Weights near zero matter least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Magnitude:
    """Scores a weight by its absolute value.

    Zeros have the lowest score there is: weights once pruned stay pruned
    while the sparsity grows, and the mask can be read off the weights.

    Example:
    >>> Magnitude().scores(np.array([0.5, -2.0, 0.0]))
    array([0.5, 2. , 0. ])

    References:
        [Han et al., 2015](https://arxiv.org/abs/1506.02626)
    """

    def scores(
        self,
        kernel: NDArray[Any],
        gradient: NDArray[Any] | None = None,
        activation: NDArray[Any] | None = None,
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight its absolute value.

        Args:
            kernel: Array of floating-point weights, of any shape.
            gradient: Not used.
            activation: Not used.

        Returns:
            Array of the kernel's shape, float32 or wider.
        """
        # Half-precision types order slowly or, as bfloat16, not at all.
        dtype = np.float64 if kernel.dtype == np.float64 else np.float32
        scores: NDArray[np.floating[Any]] = np.abs(
            kernel.astype(dtype, copy=False)
        )
        return scores

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal criterion: none."""
        return {}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
