"""The rank by variational Bayesian matrix factorization."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.low_rank.rank_rules import RankRule

_GRID_POINTS = 192
_GOLDEN = (math.sqrt(5) - 1) / 2


class VBMF(RankRule):
    """Keeps what empirical variational Bayes takes for signal.

    The matrix is taken for a product of two Gaussian factors plus Gaussian
    noise. For that model the variational solution is known in closed form:
    it cuts the singular values at a threshold that follows from the noise
    variance, and the variance is the minimum of a function of one variable.
    No level of energy or noise has to be given.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 80))
    >>> matrix = signal + 0.1 * rng.normal(size=(60, 80))
    >>> values = np.linalg.svd(matrix, compute_uv=False)
    >>> VBMF().rank(values, 60, 80)
    4

    References:
        [Nakajima et al., 2013](https://jmlr.org/papers/v14/nakajima13a.html)
    """

    def keep(self, values: NDArray[np.float64], rows: int, columns: int) -> int:
        """How many values lie above the threshold of the solution."""
        few, many = min(rows, columns), max(rows, columns)
        if not values[0] > 0:
            return 0
        # Exact zeros have no logarithm; rounding in float32 is larger.
        squares = np.maximum(values**2, 2.0**-48)
        ratio = few / many
        edge = _threshold(ratio)
        bounds = _variance_bounds(squares, few, many, edge)

        def free_energy(variance: NDArray[np.float64]) -> NDArray[np.float64]:
            scaled = squares / (many * variance[:, None])
            return _free_energy(scaled, ratio, edge)

        variance = minimize_bounded(free_energy, *bounds)
        return int((squares > many * variance * edge).sum())


def _variance_bounds(
    squares: NDArray[np.float64], few: int, many: int, edge: float
) -> tuple[float, float]:
    """Between which the noise variance lies, Theorem 4 of the paper."""
    most_signal = math.ceil(few / (1 + few / many)) - 1
    tail = float(squares[most_signal:].mean()) / many
    low = max(float(squares[most_signal]) / (many * edge), tail)
    high = float(squares.mean()) / many
    return min(low, high), high


def _free_energy(
    scaled: NDArray[np.float64], ratio: float, edge: float
) -> NDArray[np.float64]:
    """The free energy of each row, less what no variance changes."""
    noise = (scaled - np.log(scaled)).sum(axis=1)
    above = np.maximum(scaled, edge)
    signal = np.where(scaled > edge, _signal_part(above, ratio), 0.0)
    return np.asarray(noise + signal.sum(axis=1))


def _signal_part(
    scaled: NDArray[np.float64], ratio: float
) -> NDArray[np.float64]:
    middle = scaled - (1 + ratio)
    root = np.sqrt(np.maximum(middle**2 - 4 * ratio, 0.0))
    tau = (middle + root) / 2
    return np.asarray(np.log1p(tau) + ratio * np.log1p(tau / ratio) - tau)


@functools.lru_cache(maxsize=1024)
def _threshold(ratio: float) -> float:
    """The square above which a component is kept, over variance and size."""

    def slope(tau: float) -> float:
        scaled = tau / ratio
        return math.log1p(tau) / tau + math.log1p(scaled) / scaled - 1

    # The slope falls from 1 at 0 to below 0 at 2.6.
    low, high = 0.0, 2.6
    for _ in range(60):
        tau = (low + high) / 2
        low, high = (tau, high) if slope(tau) > 0 else (low, tau)
    return (1 + high) * (1 + ratio / high)


def minimize_bounded(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    low: float,
    high: float,
) -> float:
    """Where a function of one positive variable is least.

    A grid of equal ratios finds the valley, golden sections its floor.

    Args:
        function: Callable from an array of points to an array of values.
        low: Float above 0. The smallest point.
        high: Float. The largest point.

    Returns:
        Float.

    Example:
    >>> round(minimize_bounded(lambda x: (x - 0.3) ** 2, 0.01, 9.0), 6)
    0.3
    """
    points = np.geomspace(low, high, _GRID_POINTS)
    best = int(np.argmin(function(points)))
    left = float(points[max(0, best - 1)])
    right = float(points[min(best + 1, _GRID_POINTS - 1)])
    while right - left > 1e-9 * right:
        step = _GOLDEN * (right - left)
        inner = np.array([right - step, left + step])
        first, second = function(inner)
        if first <= second:
            right = float(inner[1])
        else:
            left = float(inner[0])
    return (left + right) / 2
