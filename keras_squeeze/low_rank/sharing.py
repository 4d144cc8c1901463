"""One budget shared out among many, each with a few options."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def share_out(
    costs: Sequence[Floats], errors: Sequence[Floats], budget: float
) -> list[int]:
    """Picks an option for each, so that the errors sum to little.

    All start at their dearest option. Steps down the lower convex hulls of
    error against cost follow, the one that adds the least error for what it
    saves first, until the budget holds: the Lagrangian solution. What it
    leaves unspent then buys back the largest errors.

    Args:
        costs: Sequence of arrays, the costs of the options of each.
        errors: Sequence of arrays, the errors at these costs.
        budget: Float, what the costs may sum to.

    Returns:
        List of integers, the option of each. If the budget cannot be met,
        those of the least cost.

    Example:
    >>> costs = [np.array([9.0, 4.0]), np.array([9.0, 5.0, 2.0])]
    >>> errors = [np.array([0.0, 0.9]), np.array([0.0, 0.1, 0.4])]
    >>> share_out(costs, errors, 14.0)
    [0, 1]
    """
    hulls = [lower_hull(c, e) for c, e in zip(costs, errors, strict=True)]
    picked = [hull[0] for hull in hulls]
    total = float(sum(c[p] for c, p in zip(costs, picked, strict=True)))
    for which, option in _steps(costs, errors, hulls):
        if total <= budget:
            break
        total += float(costs[which][option] - costs[which][picked[which]])
        picked[which] = option
    picked, error = _bought_back(costs, errors, picked, budget)
    # One that goes a step further may pay for more than it loses.
    for which, hull in enumerate(hulls):
        for option in hull:
            if costs[which][option] >= costs[which][picked[which]]:
                continue
            trial = [*picked[:which], option, *picked[which + 1 :]]
            trial, lower = _bought_back(costs, errors, trial, budget)
            if lower < error:
                picked, error = trial, lower
            break
    return picked


def lower_hull(costs: Floats, errors: Floats) -> list[int]:
    """The options on the lower convex hull, from the dearest to the cheapest.

    Args:
        costs: Array of floats.
        errors: Array of floats.

    Returns:
        List of integers. The first is the cheapest of those without more
        error than any other; costs fall, errors rise, and each step adds
        more error for what it saves than the one before.

    Example:
    >>> lower_hull(np.array([9.0, 6.0, 5.0, 2.0]), np.array([0, 4, 2, 4.0]))
    [0, 2, 3]
    """
    hull: list[int] = []
    for option in _undominated(costs, errors):
        while len(hull) > 1 and _above(
            costs, errors, hull[-2], hull[-1], option
        ):
            hull.pop()
        hull.append(option)
    return hull


def _undominated(costs: Floats, errors: Floats) -> list[int]:
    """Options that no other beats in both, the dearest first."""
    order = np.lexsort((errors, costs))
    sorted_errors = errors[order]
    best_before = np.minimum.accumulate(np.append(np.inf, sorted_errors))[:-1]
    kept = order[sorted_errors < best_before]
    return [int(option) for option in kept[::-1]]


def _above(
    costs: Floats, errors: Floats, first: int, middle: int, last: int
) -> bool:
    """Whether the middle one lies on or above the line between the others."""
    rise = (errors[middle] - errors[first]) * (costs[first] - costs[last])
    line = (errors[last] - errors[first]) * (costs[first] - costs[middle])
    return bool(rise >= line)


def _steps(
    costs: Sequence[Floats],
    errors: Sequence[Floats],
    hulls: Sequence[list[int]],
) -> list[tuple[int, int]]:
    """Pairs of whom and to which option, the gentlest slope first."""
    found = []
    for which, hull in enumerate(hulls):
        for place, (old, new) in enumerate(itertools.pairwise(hull)):
            saved = costs[which][old] - costs[which][new]
            added = errors[which][new] - errors[which][old]
            found.append((float(added / saved), which, place, new))
    # The place keeps steps of one hull in order where rounding ties them.
    return [(which, new) for _, which, _, new in sorted(found)]


def _bought_back(
    costs: Sequence[Floats],
    errors: Sequence[Floats],
    picked: Sequence[int],
    budget: float,
) -> tuple[list[int], float]:
    """Spends what is left where it takes away most; also the error then."""
    picked = list(picked)
    left = budget - sum(c[p] for c, p in zip(costs, picked, strict=True))
    while left > 0:
        best = (0.0, 0.0, -1, -1)
        for which, now in enumerate(picked):
            extra = costs[which] - costs[which][now]
            gain = errors[which][now] - errors[which]
            gain = np.where(extra <= left, gain, 0.0)
            option = int(np.argmax(gain))
            found = float(gain[option]), -float(extra[option]), which, option
            best = max(best, found)
        gained, paid, which, option = best
        if gained <= 0:
            break
        picked[which] = option
        left += paid
    error = sum(e[p] for e, p in zip(errors, picked, strict=True))
    return picked, float(error)
