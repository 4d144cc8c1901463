"""Products of factors, and moments of a kernel seen from its factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.pruning.statistics import ordered

Array = NDArray[np.floating[Any]]

_SPATIAL = "hkw"
_GREEDY: dict[str, Any] = {"optimize": True}


def kernel_shape(factors: Sequence[NDArray[Any]]) -> tuple[int, ...]:
    """The shape of the kernel that a chain of factors stands for.

    Args:
        factors: Sequence of kernels, as the layers of the chain have them:
            channels last, each of the same number of spatial axes.

    Returns:
        Tuple of integers. Along each spatial axis one factor alone is longer
        than one, so that the lengths multiply.

    Raises:
        SqueezeError: If the factors have different numbers of axes.

    Example:
    >>> kernel_shape([np.ones((3, 1, 8, 2)), np.ones((1, 5, 2, 4))])
    (3, 5, 8, 4)
    """
    shapes = [factor.shape for factor in factors]
    if len({len(shape) for shape in shapes}) != 1 or len(shapes[0]) < 2:
        raise SqueezeError(
            "Expected factors of one number of axes, two or more. "
            f"Received: shapes {shapes}"
        )
    spatial = np.prod([shape[:-2] for shape in shapes], axis=0, dtype=int)
    return (*spatial.tolist(), shapes[0][-2], shapes[-1][-1])


def contract(equation: str, factors: Sequence[Array]) -> Array:
    """Multiplies factors to a kernel.

    Args:
        equation: String. The product as `np.einsum` writes it: `i` and `o`
            are the kernel's channels, `a` and `b` ranks, `h`, `k` and `w`
            spatial axes, those of a factor taken as one.
        factors: Sequence of arrays, float32 or float64.

    Returns:
        Array of the kernel's shape.

    Example:
    >>> contract("ia,ao->io", [np.ones((3, 2)), np.ones((2, 1))]).ravel()
    array([2., 2., 2.])
    """
    sizes = _sizes(equation, factors)
    product = np.einsum(equation, *_flat(equation, factors, sizes), **_GREEDY)
    return np.asarray(product).reshape(kernel_shape(factors))


def contract_moment(
    equation: str, moment: Array, factors: Sequence[Array], squared: bool
) -> tuple[Array, ...]:
    """Multiplies a moment of the kernel with all factors but one.

    Args:
        equation: String. How the factors multiply to the kernel.
        moment: Array of the kernel's shape, float32 or float64.
        factors: Sequence of arrays, float32 or float64.
        squared: Boolean. Whether the moment is one of squared gradients: the
            factors are squared too.

    Returns:
        Tuple of arrays, one of each factor's shape.
    """
    inputs, output = equation.split("->")
    names = inputs.split(",")
    sizes = _sizes(equation, factors)
    flat = _flat(equation, factors, sizes)
    flat = [np.square(factor) for factor in flat] if squared else flat
    whole = moment.reshape([sizes[index] for index in output])
    found = []
    for at, factor in enumerate(factors):
        names_in = ",".join([output, *names[:at], *names[at + 1 :]])
        operands = (whole, *flat[:at], *flat[at + 1 :])
        part = np.einsum(f"{names_in}->{names[at]}", *operands, **_GREEDY)
        found.append(np.asarray(part).reshape(factor.shape))
    return tuple(found)


def in_dtype(
    arrays: Sequence[NDArray[Any]], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], ...]:
    """The arrays, contiguous and of one dtype.

    Args:
        arrays: Sequence of arrays.
        dtype: The dtype they get.

    Returns:
        Tuple of arrays.
    """
    return tuple(np.ascontiguousarray(array.astype(dtype)) for array in arrays)


def working(array: NDArray[Any], what: str) -> Array:
    """The array as float32, or float64 if it is that.

    Args:
        array: Array of floating-point numbers; `bfloat16` is one too.
        what: String. What it is, for the message of an error.

    Returns:
        The array itself where its dtype is one of the two, else a copy.

    Raises:
        SqueezeError: If its numbers are not floating-point.
    """
    array = np.asarray(array)
    # The types of ml_dtypes, bfloat16 among them, are of kind "V" to NumPy.
    if array.dtype.kind not in "fV" or array.dtype.names is not None:
        raise SqueezeError(
            f"Expected {what} of floating-point numbers. "
            f"Received: dtype {array.dtype}"
        )
    return ordered(array)


def finite(array: Array, what: str) -> Array:
    """The array, if all its numbers are finite.

    Args:
        array: Array of numbers, float32 or float64.
        what: String. What it is, for the message of an error.

    Returns:
        `array`.

    Raises:
        NonFiniteError: If it holds NaN or infinity.
    """
    good = np.isfinite(array)
    if not good.all():
        raise NonFiniteError(
            f"Expected {what} of finite numbers. Received: "
            f"{good.size - np.count_nonzero(good)} of {good.size} that are "
            f"NaN or infinite, in shape {array.shape}"
        )
    return array


def _sizes(equation: str, factors: Sequence[Array]) -> dict[str, int]:
    """The length of every index of an equation."""
    sizes: dict[str, int] = {}
    names = equation.split("->")[0].split(",")
    for indices, factor in zip(names, factors, strict=True):
        channels = [index for index in indices if index not in _SPATIAL]
        # A depthwise kernel ends in an axis of one that has no index.
        sizes.update(zip(channels, factor.shape[-2:], strict=False))
        for index in set(indices) & set(_SPATIAL):
            sizes[index] = math.prod(factor.shape[:-2])
    return sizes


def _flat(
    equation: str, factors: Sequence[Array], sizes: dict[str, int]
) -> list[Array]:
    """The factors with their spatial axes as one, as the equation has it."""
    names = equation.split("->")[0].split(",")
    return [
        factor.reshape([sizes[index] for index in indices])
        for indices, factor in zip(names, factors, strict=True)
    ]
