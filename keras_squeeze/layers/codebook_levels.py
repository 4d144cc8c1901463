"""The levels of a learned codebook as they are used."""

from __future__ import annotations

from typing import Any

from keras import ops


def ascending_levels(
    codebook: Any, unit: Any, digits: int, rows_shape: tuple[int, ...]
) -> tuple[Any, Any]:
    """The levels that weights are drawn to, in order.

    Args:
        codebook: float32 tensor of shape `(rows, levels)`.
        unit: Float or tensor that broadcasts against `codebook`: the power
            of two that levels are given in.
        digits: Integer. Significant bits of the levels that are used.
        rows_shape: Tuple of integers: the shape in which one value for each
            row broadcasts against the weights.

    Returns:
        float32 tensor of shape `(levels, *rows_shape)`, ascending along the
        first axis, and an integer tensor of the shape of `codebook`: which
        level of the codebook comes first, second, ...
    """
    order = ops.argsort(codebook, axis=-1)
    levels = round_significant(codebook, digits) * unit
    levels = ops.take_along_axis(levels, order, axis=-1)
    shape = (codebook.shape[1], *rows_shape)
    return ops.reshape(ops.transpose(levels), shape), order


def of_levels(sums: Any, order: Any, codebook: Any) -> Any:
    """Gradients of ascending levels, as those of the codebook.

    Args:
        sums: float32 tensor of the shape of `codebook`, in ascending order.
        order: What `ascending_levels` gives.
        codebook: float32 tensor of shape `(rows, levels)`.

    Returns:
        float32 tensor of the shape of `codebook`. A level of exactly zero
        has none: it stays there.
    """
    sums = ops.take_along_axis(sums, ops.argsort(order, axis=-1), axis=-1)
    return sums * ops.cast(ops.not_equal(codebook, 0.0), "float32")


def round_significant(values: Any, digits: int) -> Any:
    """Rounds values to the nearest of so many significant bits.

    Args:
        values: float32 tensor.
        digits: Integer from 1 to 23.

    Returns:
        float32 tensor of the same shape.

    Example:
    >>> float(round_significant(ops.convert_to_tensor(0.1), 8))
    0.10009765625
    """
    # Dekker's splitting of a product: exact, and no backend has another way.
    split = values * (2.0 ** (24 - digits) + 1.0)
    return split - (split - values)
