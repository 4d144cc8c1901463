"""How many bits each kernel gets, for a given average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError

# Sums of sizes times bits are compared with the budget in floating point.
_ROUNDING = 1e-9


def choose_bits(
    errors: NDArray[np.floating] | Sequence[Sequence[float]],
    sizes: Sequence[int],
    average_bits: float,
    choices: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8),
) -> list[int]:
    """Chooses bits so that the sum of all errors is small.

    Kernels start with the fewest bits, and the step that removes the most
    error a bit is taken again and again while there is room: steps go along
    the lower convex hull of each kernel's errors, so at every moment the
    choice is the best there is for the bits it takes. What room is left in
    the end is filled with the best steps that still fit.

    Args:
        errors: Array of shape `(kernels, choices)`, finite: what each kernel
            loses with each choice, comparable between kernels.
        sizes: Sequence of integers, the number of weights of each kernel.
        average_bits: Float. The bits a weight, on average over all weights,
            not to exceed.
        choices: Ascending sequence of integers, the widths of a code.
            Defaults to `1` to `8`.

    Returns:
        List of integers, the bits of each kernel.

    Raises:
        SqueezeError: If shapes do not fit, an error is not finite, or the
            average is below the least choice.

    Example:
    >>> errors = [[9.0, 3.0, 1.0], [4.0, 1.0, 0.5]]
    >>> choose_bits(errors, [10, 10], 3, choices=(2, 3, 4))
    [3, 3]

    References:
        - Shoham and Gersho, 1988, Efficient bit allocation for an arbitrary
          set of quantizers.
    """
    table = np.asarray(errors, np.float64)
    weights = np.asarray(sizes, np.float64)
    widths = np.asarray(choices, np.float64)
    _check(table, weights, widths, average_bits)
    room = weights.sum() * (average_bits - widths[0]) * (1 + _ROUNDING)
    places = np.zeros(len(weights), np.int64)
    for kernel, place in _hull_steps(table, weights, widths):
        step = weights[kernel] * (widths[place] - widths[places[kernel]])
        if step > room:
            break
        places[kernel], room = place, room - step
    _fill(table, weights, widths, places, room)
    return [int(widths[place]) for place in places]


def _hull_steps(
    table: NDArray[np.float64],
    weights: NDArray[np.float64],
    widths: NDArray[np.float64],
) -> list[tuple[int, int]]:
    """Steps along all hulls, those that gain the most a bit first."""
    steps = []
    for kernel, errors in enumerate(table):
        place = 0
        while place < len(widths) - 1:
            gains = (errors[place] - errors[place + 1 :]) / (
                widths[place + 1 :] - widths[place]
            )
            ahead = int(np.argmax(gains))
            if gains[ahead] <= 0:
                break
            place += 1 + ahead
            # An empty kernel has its bits for nothing.
            gain = gains[ahead] / max(weights[kernel], _ROUNDING)
            steps.append((-float(gain), kernel, place))
    return [(kernel, place) for _, kernel, place in sorted(steps)]


def _fill(
    table: NDArray[np.float64],
    weights: NDArray[np.float64],
    widths: NDArray[np.float64],
    places: NDArray[np.int64],
    room: float,
) -> None:
    """Takes the best steps that fit until none does."""
    rows = np.arange(len(weights))
    while len(rows):
        added = (widths - widths[places][:, None]) * weights[:, None]
        gained = table[rows, places][:, None] - table
        possible = (added >= 0) & (added <= room) & (gained > 0)
        if not possible.any():
            return
        worth = np.where(
            possible, gained / np.maximum(added, _ROUNDING), -np.inf
        )
        kernel, place = np.unravel_index(int(np.argmax(worth)), worth.shape)
        room -= added[kernel, place]
        places[kernel] = place


def _check(
    table: NDArray[np.float64],
    weights: NDArray[np.float64],
    widths: NDArray[np.float64],
    average_bits: float,
) -> None:
    ascending = widths.size > 0 and bool(np.all(np.diff(widths) > 0))
    if table.shape != (len(weights), len(widths)) or not ascending:
        raise SqueezeError(
            "Expected ascending `choices` and errors of the shape (kernels, "
            f"choices). Received: errors of shape {table.shape}, "
            f"{len(weights)} sizes, choices={widths.tolist()}"
        )
    if not np.isfinite(table).all() or bool((weights < 0).any()):
        raise SqueezeError(
            "Expected finite errors and sizes that are not negative. "
            f"Received: errors={table.tolist()}, sizes={weights.tolist()}"
        )
    if not average_bits >= widths[0]:
        raise SqueezeError(
            f"Expected `average_bits` of at least {widths[0]:g}, the least "
            f"choice. Received: average_bits={average_bits!r}"
        )
