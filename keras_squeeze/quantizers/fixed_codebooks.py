"""The codebooks that are the same for every tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError, UnknownIdentifierError

# Quantiles of the normal distribution, the outermost at -1 and 1, as the
# authors of QLoRA published them: no rounding of ours may change them.
_NF4_LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634),
    *(0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)

# Smaller powers of two are zero for any network, and products with them would
# leave the normal range of float32.
_MOST_POWERS = 63


def fixed_codebook(name: str, bits: int) -> NDArray[np.float32]:
    """A codebook by its name.

    Levels ascend over the codes in use; zero has the code 0, but for NF4,
    whose eight positive levels leave it the code -1. Entries of codes that
    are not in use are 0.

    Args:
        name: String, one of `"nf4"`, `"float8_e4m3"`, `"float8_e5m2"` and
            `"power_of_two"`.
        bits: Integer. 4 for `"nf4"`, 8 for `"float8_..."`, from 2 to 8 for
            `"power_of_two"`.

    Returns:
        float32 array of shape `(2 ** bits,)`.

    Raises:
        UnknownIdentifierError: If there is no such codebook.
        SqueezeError: If it does not come in so many bits.

    Example:
    >>> fixed_codebook("power_of_two", 3)
    array([ 0.  , -1.  , -0.5 , -0.25,  0.  ,  0.25,  0.5 ,  1.  ],
          dtype=float32)

    References:
        - Dettmers et al., 2023, QLoRA: https://arxiv.org/abs/2305.14314
        - Micikevicius et al., 2022, FP8 formats for deep learning:
          https://arxiv.org/abs/2209.05433
        - Zhou et al., 2017, Incremental network quantization (powers of two):
          https://arxiv.org/abs/1702.03044
    """
    if name not in _CODEBOOKS:
        raise UnknownIdentifierError(
            f"Expected the name of a codebook, one of {sorted(_CODEBOOKS)}. "
            f"Received: {name!r}"
        )
    widths, make = _CODEBOOKS[name]
    if bits not in widths:
        raise SqueezeError(
            f"Expected `bits` to be one of {widths} for the codebook {name!r}. "
            f"Received: bits={bits!r}"
        )
    return make(bits)


def codebook_bits(name: str) -> tuple[int, ...]:
    """The widths in which a codebook comes.

    Args:
        name: String, as for `fixed_codebook`.

    Returns:
        Ascending tuple of integers.
    """
    return _CODEBOOKS[name][0]


def _nf4(bits: int) -> NDArray[np.float32]:
    return np.array(_NF4_LEVELS, np.float32)


def _power_of_two(bits: int) -> NDArray[np.float32]:
    count = min(2 ** (bits - 1) - 1, _MOST_POWERS)
    return _mirrored(np.ldexp(1.0, np.arange(1 - count, 1)), bits)


def _float8_e4m3(bits: int) -> NDArray[np.float32]:
    # The last field of the last exponent is NaN.
    return _mirrored(_floats(exponents=16, fraction=3, bias=7)[:-1], bits)


def _float8_e5m2(bits: int) -> NDArray[np.float32]:
    # The last exponent holds infinity and NaN.
    return _mirrored(_floats(exponents=31, fraction=2, bias=15), bits)


def _floats(exponents: int, fraction: int, bias: int) -> NDArray[np.float64]:
    """The positive values of a float format, ascending."""
    fields = np.arange(1, exponents << fraction)
    exponent, rest = fields >> fraction, fields & ((1 << fraction) - 1)
    implicit = np.where(exponent > 0, 1 << fraction, 0)
    shift = np.maximum(exponent, 1) - bias - fraction
    values: NDArray[np.float64]
    values = np.ldexp((implicit + rest).astype(np.float64), shift)
    return values


def _mirrored(positive: NDArray[np.float64], bits: int) -> NDArray[np.float32]:
    """Codebook of levels and their negatives around zero at code 0."""
    levels = np.zeros(2**bits, np.float32)
    zero, count = 2 ** (bits - 1), len(positive)
    levels[zero + 1 : zero + 1 + count] = positive
    levels[zero - count : zero] = -positive[::-1]
    return levels


_CODEBOOKS: dict[
    str, tuple[tuple[int, ...], Callable[[int], NDArray[np.float32]]]
] = {
    "nf4": ((4,), _nf4),
    "float8_e4m3": ((8,), _float8_e4m3),
    "float8_e5m2": ((8,), _float8_e5m2),
    "power_of_two": (tuple(range(2, 9)), _power_of_two),
}
