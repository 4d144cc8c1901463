"""What a change of ranks does to arrays that go with the factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.low_rank.contraction import in_dtype, working
from keras_squeeze.low_rank.decomposition import Bonds, Decomposition

Matrix = NDArray[np.float64]


def map_factors(
    decomposition: Decomposition, factors: Sequence[NDArray[Any]], bonds: Bonds
) -> tuple[NDArray[Any], ...]:
    """Takes factors, or averages of them, through bonds.

    Args:
        decomposition: The `Decomposition` the factors are of.
        factors: Sequence of arrays: the factors that were re-truncated, or
            others of their shapes that stand for the same.
        bonds: The bonds that `Decomposition.retruncate` returned.

    Returns:
        Tuple of arrays of the factors' dtypes, of the lower ranks.

    Raises:
        SqueezeError: If the arrays do not fit the bonds.
    """
    sides = [(q, p) for p, q in bonds]
    return _mapped(decomposition, factors, sides)


def map_moments(
    decomposition: Decomposition,
    moments: Sequence[NDArray[Any]],
    bonds: Bonds,
    squared: bool = False,
) -> tuple[NDArray[Any], ...]:
    """Takes moments of the factors' gradients through bonds.

    Where a factor becomes `factor @ P`, and the next one `Q @ factor`, the
    gradient of the first becomes `gradient @ Q.T`, and that of the next
    `P.T @ gradient`.

    Args:
        decomposition: The `Decomposition` the factors are of.
        moments: Sequence of arrays of the factors' shapes: means of
            gradients, or of their squares.
        bonds: The bonds that `Decomposition.retruncate` returned.
        squared: Boolean. Whether they are means of squares; the matrices are
            then squared element by element, as for independent gradients.
            Defaults to `False`.

    Returns:
        Tuple of arrays of the moments' dtypes, of the lower ranks.

    Raises:
        SqueezeError: If the arrays do not fit the bonds.
    """
    power = 2 if squared else 1
    sides = [(p.T**power, q.T**power) for p, q in bonds]
    return _mapped(decomposition, moments, sides)


def _mapped(
    decomposition: Decomposition,
    arrays: Sequence[NDArray[Any]],
    sides: Sequence[tuple[Matrix, Matrix]],
) -> tuple[NDArray[Any], ...]:
    """Multiplies along bonds: `(left factor of the next, right of this)`."""
    if len(sides) != len(arrays) - 1:
        raise SqueezeError(
            "Expected a bond between each two neighbours. Received: "
            f"{len(sides)} bonds for {len(arrays)} arrays"
        )
    found: list[NDArray[Any]] = []
    for at, array in enumerate(arrays):
        wide = working(array, "factors or moments")
        # A depthwise factor has both bonds on one axis, as one.
        if at > 0:
            wide = _multiplied(sides[at - 1][0], wide, axis=-2)
        if at < len(sides) and at not in decomposition.depthwise:
            wide = _multiplied(sides[at][1].T, wide, axis=-1)
        found.extend(in_dtype([wide], np.asarray(array).dtype))
    return tuple(found)


def _multiplied(
    matrix: Matrix, array: NDArray[Any], axis: int
) -> NDArray[np.float64]:
    if array.shape[axis] != matrix.shape[1]:
        raise SqueezeError(
            f"Expected an array of {matrix.shape[1]} along axis {axis}, the "
            f"rank that the bond is of. Received: shape {array.shape}"
        )
    product = np.tensordot(matrix, array, axes=(1, axis))
    return np.moveaxis(product, 0, axis)
