"""How the errors of many tensors add up to one figure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.rate_distortion_choice import check_importance

_BLOCK = 1 << 18


@dataclasses.dataclass(frozen=True, eq=False)
class DistortionMeasure:
    """How an error counts: `sum(factor * error) / norm` over all tensors.

    Args:
        factors: Dictionary from names to floats.
        unit_steps: Dictionary from names to the steps at which every tensor
            gives up the same error, as it counts, for a bit.
        norm: Float. The error that counts as 0 dB.
    """

    factors: dict[str, float]
    unit_steps: dict[str, float]
    norm: float


def relative_measure(
    tensors: Mapping[str, NDArray[np.float32]],
) -> DistortionMeasure:
    """Counts the error of every weight relative to its tensor's mean square.

    Args:
        tensors: Mapping from names to float32 arrays.

    Returns:
        `DistortionMeasure`.
    """
    energies, sizes = {}, {}
    for name, array in tensors.items():
        energies[name], sizes[name] = energy(array), array.size
        del array
    squares = {k: e / max(1, sizes[k]) for k, e in energies.items()}
    return DistortionMeasure(
        factors={k: 1 / s if s else 0.0 for k, s in squares.items()},
        unit_steps={k: math.sqrt(s) or 1.0 for k, s in squares.items()},
        # A tensor of zeros has no error: it must not count as a good one.
        norm=float(sum(size for k, size in sizes.items() if energies[k])),
    )


def weighted_measure(
    tensors: Mapping[str, NDArray[np.float32]],
    importance: Mapping[str, NDArray[np.float64]],
) -> DistortionMeasure:
    """Counts the error of every weight by its importance.

    Args:
        tensors: Mapping from names to float32 arrays.
        importance: Mapping from the same names to arrays of the same shapes.

    Returns:
        `DistortionMeasure`.
    """
    total = sum(float(array.sum()) for array in importance.values())
    norm = sum(energy(a, importance[k]) for k, a in tensors.items())
    steps = {}
    for name, array in importance.items():
        share = float(array.mean()) * (norm and 1 / norm) if array.size else 0
        count = sum(a.size for a in tensors.values())
        steps[name] = 1 / math.sqrt(share * count) if share and total else 1.0
    return DistortionMeasure(dict.fromkeys(tensors, 1.0), steps, norm)


def energy(
    values: NDArray[np.float32], importance: NDArray[Any] | None = None
) -> float:
    """The sum of the squares, each by its importance.

    Args:
        values: float32 array.
        importance: Optional array of the same shape. Defaults to ones.

    Returns:
        Float.
    """
    if values.flags.f_contiguous:
        # In the order of memory, as it was always added up.
        values, importance = (
            values.T,
            None if importance is None else importance.T,
        )
    flat = np.ascontiguousarray(values).reshape(-1)
    factors = None
    if importance is not None:
        factors = np.ascontiguousarray(importance).reshape(-1)
    return _sum_of_squares(flat, factors)


def _sum_of_squares(
    flat: NDArray[np.float32], factors: NDArray[Any] | None
) -> float:
    """A pairwise sum, as NumPy's of the whole would be, of small parts."""
    if flat.size <= _BLOCK:
        squares = np.square(flat, dtype=np.float64)
        if factors is not None:
            squares *= factors
        return float(squares.sum())
    # Where NumPy cuts, so that no digit differs.
    half = flat.size // 2
    half -= half % 8
    return sum(
        _sum_of_squares(flat[part], None if factors is None else factors[part])
        for part in (slice(half), slice(half, None))
    )


def checked_importance(
    tensors: Mapping[str, NDArray[np.float32]],
    importance: Mapping[str, NDArray[Any]] | None,
) -> dict[str, NDArray[np.float64]] | None:
    """The importance of all tensors as float64, in their order.

    Args:
        tensors: Mapping from names to arrays.
        importance: Mapping from names to arrays, or `None`.

    Returns:
        Dictionary, or `None`.

    Raises:
        SqueezeError: If a tensor has none, or one that does not fit.
    """
    if importance is None:
        return None
    missing = sorted(set(tensors) - set(importance))
    if missing:
        raise SqueezeError(
            "Expected an importance for every tensor, or for none. Received: "
            f"none for {missing}"
        )
    arrays = {k: np.asarray(importance[k], np.float64) for k in tensors}
    for name, array in arrays.items():
        check_importance(array, tensors[name].shape, name)
    return arrays
