"""The search for the step that gives the wanted ratio or size."""

from __future__ import annotations

from collections.abc import Callable

_MOST_TRIALS = 20
# Steps beyond these, relative to the weights, change nothing any more.
_LARGEST = 8.0
_SMALLEST = -12.0
_SMALLEST_MOVE = 0.01
_LARGEST_MOVE = 4.0


def search_exponent(
    measure: Callable[[float], float],
    guess: float,
    bracket: tuple[float, float],
    slope: float,
) -> None:
    """Looks for an exponent whose measure lies in a bracket.

    The caller keeps what it measured: in a measure with jumps the best one
    found may be none inside of the bracket.

    Args:
        measure: Callable from an exponent to a float that falls as the
            exponent rises.
        guess: Float, where to begin.
        bracket: Pair of floats, the lowest and the highest wanted measure.
        slope: Float above 0, about how much the measure falls an octave.

    Example:
    >>> seen = []
    >>> def measure(exponent):
    ...     seen.append(exponent)
    ...     return 10 - 3 * exponent
    >>> search_exponent(measure, 0.0, (3.9, 4.1), slope=2.5)
    >>> 1.9 < seen[-1] < 2.1
    True
    """
    low, high = bracket
    aim = (low + high) / 2
    fine: tuple[float, float] | None = None
    coarse: tuple[float, float] | None = None
    exponent = min(max(guess, _SMALLEST), _LARGEST)
    before: tuple[float, float] | None = None
    for _ in range(_MOST_TRIALS):
        reached = measure(exponent)
        if low <= reached <= high:
            return
        if reached > high:
            fine = (exponent, reached)
        else:
            coarse = (exponent, reached)
        if fine and coarse:
            following = _between(fine, coarse, aim)
        else:
            if before is not None:
                slope = _slope(before, (exponent, reached), slope)
            following = _moved(exponent, 1.1 * (reached - aim) / slope)
        if following == exponent:
            return
        before = (exponent, reached)
        exponent = following


def _slope(
    before: tuple[float, float], now: tuple[float, float], known: float
) -> float:
    slope = (before[1] - now[1]) / (now[0] - before[0])
    return slope if slope > 0 else known / 2


def _moved(exponent: float, move: float) -> float:
    size = min(max(abs(move), _SMALLEST_MOVE), _LARGEST_MOVE)
    moved = exponent + (size if move > 0 else -size)
    return min(max(moved, _SMALLEST), _LARGEST)


def _between(
    fine: tuple[float, float], coarse: tuple[float, float], aim: float
) -> float:
    share = (fine[1] - aim) / (fine[1] - coarse[1])
    # Not too near to an end, so that the bracket shrinks from both sides.
    share = min(max(share, 0.03), 0.97)
    return fine[0] + share * (coarse[0] - fine[0])
