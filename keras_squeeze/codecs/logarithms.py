"""Logarithms to base 2 that are the same on every machine.

Encoders weigh what their choices would cost. The last bit of a logarithm, and
of a sum of floats, depends on the processor and on the library; where two
choices cost nearly the same, so would the bytes of a file. Lengths are
therefore whole multiples of `2**-16` bits, held in float64: their products with
counts and the sums of these are exact, in whatever order, up to `2**37` bits.
"""

from __future__ import annotations

import functools

import numpy as np

FRACTION_BITS = 16
#: Logarithms of numbers below are looked up; others are rounded to 18 bits.
TABLE_SIZE = 1 << 18
_TABLE_BITS = TABLE_SIZE.bit_length() - 1
#: The largest number for which `log2_steps` knows the step to the next.
MOST_STEPS = 1 << 16
# Two over the natural logarithm of two.
_FACTOR = 2.8853900817779268
_TERMS = 17


def rounded(lengths: np.ndarray) -> np.ndarray:
    """The nearest multiples of `2**-16`; float64."""
    whole = np.rint(np.ldexp(lengths, FRACTION_BITS))
    out: np.ndarray = np.ldexp(whole, -FRACTION_BITS)
    return out


def series(x: np.ndarray) -> np.ndarray:
    """The logarithm of `(1 + x) / (1 - x)`, for `x` in 0..1/3 or so.

    A fixed sequence of IEEE 754 additions, products and quotients of single
    elements, so that no library of mathematics has a say.
    """
    square = x * x
    total = np.zeros_like(x)
    for term in range(2 * _TERMS - 1, 0, -2):
        total = total * square + 1 / term
    out: np.ndarray = _FACTOR * (x * total)
    return out


def first_logarithms(count: int) -> np.ndarray:
    """Logarithms of 0 (as if it were 1), 1, 2, ... `count - 1`; float64."""
    parts, exponents = np.frexp(np.maximum(np.arange(count), 1.0))
    # Parts are 1/2 to 1, and 3/4 to 3/2 when the small ones are doubled.
    small = parts < 0.75
    parts = np.where(small, 2 * parts, parts)
    fractions = rounded(series((parts - 1) / (parts + 1)))
    out: np.ndarray = fractions + (exponents - small)
    return out


@functools.cache
def log2_table() -> np.ndarray:
    """`first_logarithms` of `TABLE_SIZE` entries; read-only."""
    table = first_logarithms(TABLE_SIZE)
    table.setflags(write=False)
    return table


@functools.cache
def log2_steps() -> np.ndarray:
    """What the logarithm of a number gains when 1 is added to the number.

    Returns:
        float64 array, of 0 (infinite) to `MOST_STEPS`; not rounded: for
        comparisons, not for sums. Read-only.
    """
    steps = series(1 / (2.0 * np.arange(1, MOST_STEPS + 1) + 1))
    steps = np.concatenate([[np.inf], steps])
    steps.setflags(write=False)
    return steps


def log2_of(numbers: np.ndarray | int) -> np.ndarray:
    """Logarithms of whole numbers; 0 of 0.

    Args:
        numbers: Array of integers, or of floats that are whole numbers, at
            least 0.

    Returns:
        float64 array of that shape, multiples of `2**-16`.

    Example:
    >>> log2_of(np.array([0, 1, 8, 1 << 40])).tolist()
    [0.0, 0.0, 3.0, 40.0]
    """
    whole = np.asarray(numbers, np.int64)
    try:
        out: np.ndarray = log2_table()[whole]
    except IndexError:
        out = _log2_of_great(whole)
    return out


def _log2_of_great(whole: np.ndarray) -> np.ndarray:
    length = np.frexp(whole.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(length - _TABLE_BITS, 0)
    # Half of what is dropped is added, so that errors cancel out in sums.
    head = np.minimum(whole + ((1 << shift) >> 1) >> shift, TABLE_SIZE - 1)
    out: np.ndarray = log2_table()[head] + shift
    return out


def n_log_n(counts: np.ndarray) -> np.ndarray:
    """Counts times their logarithms; float64.

    Args:
        counts: Array of whole numbers, at least 0.
    """
    out: np.ndarray = counts * log2_of(counts)
    return out
