"""Chance: what every criterion has to beat."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning.configured import Configured
from keras_squeeze.pruning.statistics import zeros_lowest


class Random(Configured):
    """Scores weights by a draw that depends on seed and shape alone.

    The same weights have the same scores at every step and on every machine,
    so that the weights pruned at one sparsity are among those pruned at a
    higher one. Kernels of equal shapes get equal scores.

    Args:
        seed: Integer of at least 0. Defaults to `0`.

    Example:
    >>> Random(seed=1).scores(np.array([1.0, 0.0, 3.0])).round(3)
    array([0.014,  -inf, 0.456], dtype=float32)
    """

    statistics: tuple[str, ...] = ()

    def __init__(self, seed: int = 0) -> None:
        integral = isinstance(seed, numbers.Integral)
        if not integral or isinstance(seed, bool) or seed < 0:
            raise SqueezeError(
                "Expected `seed` to be an integer of at least 0. "
                f"Received: {seed!r}"
            )
        self.seed = int(seed)

    def scores(
        self, kernel: NDArray[Any], **statistics: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight a number in `[0, 1)`.

        Args:
            kernel: Array of floating-point weights, of any shape.
            **statistics: Not used.

        Returns:
            Array of the kernel's shape, float32.
        """
        # Raw bits of a named generator: NumPy promises their stream for ever.
        bits = np.random.PCG64([self.seed, *kernel.shape])
        draws = bits.random_raw(kernel.size) >> np.uint64(40)
        scores = draws.astype(np.float32) * np.float32(2.0**-24)
        return zeros_lowest(scores.reshape(kernel.shape), kernel)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal criterion."""
        return {"seed": self.seed}
