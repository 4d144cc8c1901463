"""The distributions that a table of `class_rans` can name by two numbers.

A mixture of a Laplacian and a Gaussian of the same standard deviation, as a
function of the distance to its centre. The numbers are whole from beginning
to end, and `decimal` rounds as IEEE 754-2008 says, so every machine computes
the same tables.

- Scale `s` in 0..127 is the deviation `2**(s/8 - 3)`.
- Shape `h` in 0..7 is the share `h/7` of the Laplacian.
"""

from __future__ import annotations

import decimal
import functools

import numpy as np

from keras_squeeze.codecs.logarithms import log2_of

SCALES = 128
SHAPES = 8
#: Distances have weights up to here; farther ones count as the last.
DISTANCES = 256

_FRACTION_BITS = 31
_STEPS_AN_OCTAVE = 8
_LEAST_EXPONENT = -3
_DIGITS = 40
_MOST_LENGTH = 24
# For larger products BLAS wakes threads, which costs more than it saves.
_PRODUCT = 1 << 17


@functools.cache
def family() -> np.ndarray:
    """The weights of all distributions.

    Returns:
        int64 array of shape `(SCALES * SHAPES, DISTANCES)`, row
        `SHAPES * scale + shape`; read-only. The weights of all distances, both
        signs counted, add up to about `7 * 2**31`.
    """
    laplace, gauss = np.array(_ratios(), np.int64).T
    square = _product(gauss, gauss)
    fields = np.zeros((2, DISTANCES, SCALES), np.int64)
    fields[:, 0] = 1 << _FRACTION_BITS
    for distance in range(1, DISTANCES):
        fields[0, distance] = _product(fields[0, distance - 1], laplace)
        fields[1, distance] = _product(fields[1, distance - 1], gauss)
        gauss = _product(gauss, square)
    totals = fields[:, :1] + 2 * fields[:, 1:].sum(1, keepdims=True)
    shares = (fields << _FRACTION_BITS) // totals
    shape = np.arange(SHAPES)[:, None, None]
    mixed = shape * shares[0] + (SHAPES - 1 - shape) * shares[1]
    weights = mixed.transpose(2, 0, 1).reshape(SCALES * SHAPES, DISTANCES)
    weights = np.ascontiguousarray(weights)
    weights.setflags(write=False)
    return weights


@functools.cache
def totals() -> np.ndarray:
    """The weights of all distances of each row, both signs; int64."""
    weights = family()
    out: np.ndarray = weights[:, 0] + 2 * weights[:, 1:].sum(1)
    return out


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out: np.ndarray = a * b >> _FRACTION_BITS
    return out


def _ratios() -> list[tuple[int, int]]:
    """Of each scale, how the two densities fall off from 0 to 1."""
    out = []
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        one, two = decimal.Decimal(1), decimal.Decimal(2)
        unit = decimal.Decimal(1 << _FRACTION_BITS)
        for scale in range(SCALES):
            octaves = decimal.Decimal(scale) / _STEPS_AN_OCTAVE
            deviation = ((octaves + _LEAST_EXPONENT) * two.ln()).exp()
            laplace = (-two.sqrt() / deviation).exp()
            gauss = (-one / (two * deviation * deviation)).exp()
            out.append((int(laplace * unit), int(gauss * unit)))
    return out


@functools.cache
def code_lengths() -> tuple[np.ndarray, np.ndarray]:
    """Bits of a distance under each distribution, for searching only.

    Returns:
        Two float64 arrays of shape `(SCALES * SHAPES, DISTANCES)`: with every
        distance possible, and given that the distance is not 0.
    """
    weights = family()
    away = 2 * weights[:, 1:].sum(1, keepdims=True)
    own = log2_of(weights)
    whole = log2_of(weights[:, :1] + away) - own
    nonzero = log2_of(away) - own
    # What has no weight is escaped, at about the price of two tokens.
    for lengths in (whole, nonzero):
        lengths[weights == 0] = _MOST_LENGTH
    nonzero[:, 0] = 0
    most = np.float64(_MOST_LENGTH)
    return np.clip(whole, 0, most), np.clip(nonzero, 0, most)


def expected_bits(folded: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """What distances with these counts take under each distribution.

    Args:
        folded: float64 array of shape `(tables, distances)`, counts.
        lengths: float64 array of shape `(distributions, DISTANCES)`.

    Returns:
        float64 array of shape `(tables, distributions)`, exact: whatever the
        order in which BLAS adds, counts and multiples of `2**-16` leave
        nothing to round.
    """
    reach = folded.shape[1]
    step = max(_PRODUCT // folded.size, 1)
    if step >= len(lengths):
        out: np.ndarray = folded @ lengths[:, :reach].T
        return out
    parts = [
        folded @ lengths[first : first + step, :reach].T
        for first in range(0, len(lengths), step)
    ]
    return np.concatenate(parts, 1)
