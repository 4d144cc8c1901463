"""How many directions a matrix really uses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 30


def effective_rank(matrix: NDArray[Any]) -> float:
    """The squared Frobenius norm over the squared largest singular value.

    It lies between 1, all rows multiples of one, and the smaller side of the
    matrix, all directions alike. The largest singular value comes from a
    power iteration, which costs as much as a few dozen products with a
    vector; where it has not settled, the figure is a little too high.

    Args:
        matrix: Array of two or more dimensions; all axes but the last are
            rows.

    Returns:
        Float. 0 for a matrix of zeros, or with NaN or infinity.

    Example:
    >>> effective_rank(np.eye(5))
    5.0

    References:
        [Koltchinskii and Lounici, 2017](https://arxiv.org/abs/1405.2468)
    """
    rows = np.asarray(matrix, np.float64).reshape(-1, matrix.shape[-1])
    if rows.shape[0] < rows.shape[1]:
        rows = rows.T
    scale = float(np.max(np.abs(rows), initial=0.0))
    if scale == 0 or not np.isfinite(scale):
        return 0.0
    # Squares of tiny or huge weights would leave the range of floats.
    rows = rows / scale
    total = float(np.sum(np.square(rows)))
    # The heaviest row is never orthogonal to the direction looked for.
    heaviest = int(np.argmax(np.sum(np.square(rows), axis=1)))
    vector = rows[heaviest] / np.linalg.norm(rows[heaviest])
    largest = 0.0
    for _ in range(_ITERATIONS):
        image = (rows @ vector) @ rows
        largest = float(np.linalg.norm(image))
        vector = image / largest
    return total / largest
