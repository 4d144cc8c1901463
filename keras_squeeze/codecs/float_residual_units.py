"""Floats as whole numbers of a unit that a reader knows from the base.

The unit of a weight is the last place of the base's value, or a small part of
the change that is expected, if that is more: what a base that happens to be
tiny says of the last places of a weight that moved away is nothing. Weight
and base become numbers of units, cut towards zero. Their difference is what
is modelled; the bits of the weight below its unit, its *tail*, are noise.

All of it is exact: powers of two, whole numbers, and nothing else.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

#: Significant bits and exponent of the least magnitude, of every dtype.
FORMATS = {
    "float16": (11, -24),
    "bfloat16": (8, -133),
    "float32": (24, -149),
    "float64": (53, -1074),
    "float8_e4m3fn": (4, -9),
    "float8_e5m2": (3, -16),
}

#: Where nothing changes: no step is expected there.
STILL = -(1 << 20)

#: Numbers of units beyond this are not coded.
MOST_UNITS = 1 << 61


@dataclasses.dataclass(frozen=True)
class Grid:
    """The last places of a float format.

    Args:
        precision: Integer. Significant bits, the leading one included.
        least: Integer. Exponent of the least magnitude.
    """

    precision: int
    least: int

    def last_places(self, values: np.ndarray) -> np.ndarray:
        """The exponents of the last places of float64 values, int64."""
        exponents = np.frexp(values)[1].astype(np.int64)
        places: np.ndarray = np.maximum(exponents - self.precision, self.least)
        places[values == 0] = self.least
        return places

    def units(
        self, base: np.ndarray, steps: np.ndarray, guard: int
    ) -> np.ndarray:
        """The exponent of the unit of every weight.

        Args:
            base: float64 array, the base's values.
            steps: int64 array that broadcasts against it: the expected
                changes, in half octaves; `STILL` where there are none.
            guard: Integer. Octaves from a change to its unit.

        Returns:
            int64 array.
        """
        places = self.last_places(base)
        units: np.ndarray = np.maximum(places, (steps >> 1) - guard)
        return units


def grid_of(dtype: np.dtype[Any], trim: int = 0) -> Grid:
    """The grid of a dtype whose mantissas end in `trim` zero bits."""
    precision, least = FORMATS[dtype.name]
    return Grid(precision - trim, least + trim)


def in_units(values: np.ndarray, units: np.ndarray) -> np.ndarray | None:
    """Values as numbers of their units, cut towards zero.

    Args:
        values: float64 array, all finite.
        units: int64 array of exponents.

    Returns:
        int64 array, or `None` if one does not fit.
    """
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.ldexp(values, _exponents(-units))
    if not bool((np.abs(scaled) < MOST_UNITS).all()):
        return None
    numbers: np.ndarray = np.trunc(scaled).astype(np.int64)
    return numbers


def tail_widths(
    numbers: np.ndarray, units: np.ndarray, grid: Grid
) -> np.ndarray:
    """How many bits a weight has below its unit.

    Args:
        numbers: int64 array, weights in units.
        units: int64 array of exponents.
        grid: `Grid` of the weights.

    Returns:
        int64 array; 0 where the number is 0, of which nothing is known.
    """
    leading = bit_lengths(np.abs(numbers)) + units
    places = np.maximum(leading - grid.precision, grid.least)
    return np.where(numbers == 0, 0, np.maximum(units - places, 0))


def tails(
    values: np.ndarray,
    numbers: np.ndarray,
    units: np.ndarray,
    widths: np.ndarray,
) -> np.ndarray:
    """The bits below the units, as uint64."""
    whole = np.abs(numbers).astype(np.float64)
    # The rest is exact: it has no more bits than the value itself.
    rest = np.abs(np.ldexp(values, _exponents(-units))) - whole
    rest[widths == 0] = 0
    found: np.ndarray = np.ldexp(rest, _exponents(widths)).astype(np.uint64)
    return found


def from_units(
    numbers: np.ndarray,
    rest: np.ndarray,
    units: np.ndarray,
    widths: np.ndarray,
) -> np.ndarray:
    """Undoes `in_units` and `tails`.

    Args:
        numbers: int64 array, weights in units.
        rest: uint64 array, their tails.
        units: int64 array of exponents.
        widths: int64 array, the widths of the tails.

    Returns:
        float64 array.
    """
    with np.errstate(over="ignore", under="ignore"):
        sizes = np.ldexp(np.abs(numbers).astype(np.float64), _exponents(units))
        places = _exponents(units - widths)
        sizes += np.ldexp(rest.astype(np.float64), places)
    values: np.ndarray = np.copysign(sizes, numbers)
    return values


def _exponents(numbers: np.ndarray) -> np.ndarray:
    # What C calls an int: all that `ldexp` takes on every system.
    found: np.ndarray = numbers.astype(np.int32)
    return found


def bit_lengths(numbers: np.ndarray) -> np.ndarray:
    """The bits of whole numbers of at least 0, int64.

    Example:
    >>> bit_lengths(np.array([0, 1, 2**60 - 1])).tolist()
    [0, 1, 60]
    """
    high = numbers >> 30
    low = numbers & ((1 << 30) - 1)
    top = np.frexp(high.astype(np.float64))[1].astype(np.int64) + 30
    return np.where(high > 0, top, np.frexp(low.astype(np.float64))[1])
