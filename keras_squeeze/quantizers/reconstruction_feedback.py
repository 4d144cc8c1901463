"""Codes for the least error of outputs: error feedback, then descent.

All arrays are stacks of matrices with the inputs in the order in which they
are settled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.reconstruction_grid import MatrixGrid

# Inputs whose corrections are applied to all others in one product.
_BLOCK = 64


def feed_back_errors(
    target: NDArray[np.float64],
    correction: NDArray[np.float64],
    grid: MatrixGrid,
    settled: NDArray[np.bool_],
    codes: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Rounds input by input; later ones make up for the errors of earlier.

    Args:
        target: float64 array of shape `(groups, inputs, outputs)`, the
            weights.
        correction: float64 array of shape `(groups, inputs, inputs)`, as
            `correction_factors` returns it.
        grid: `MatrixGrid`.
        settled: Boolean array of the shape of `target`: weights that keep
            their codes.
        codes: int32 array of the shape of `target`, the codes of those.

    Returns:
        int32 array of the shape of `target`.
    """
    rest, found = target.copy(), codes.copy()
    inputs = target.shape[1]
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        errors = np.empty((len(target), stop - start, target.shape[2]))
        for i in range(start, stop):
            nearest = grid.nearest(rest[:, i], i)
            found[:, i] = np.where(settled[:, i], codes[:, i], nearest)
            error = rest[:, i] - grid.values(found[:, i], i)
            error /= correction[:, i, i, None]
            errors[:, i - start] = error
            later = correction[:, i, i + 1 : stop, None]
            rest[:, i + 1 : stop] -= later * error[:, None]
        below = correction[:, start:stop, stop:].swapaxes(1, 2)
        rest[:, stop:] -= below @ errors
    return found


def descend(
    target: NDArray[np.float64],
    gram: NDArray[np.float64],
    grid: MatrixGrid,
    settled: NDArray[np.bool_],
    codes: NDArray[np.int32],
    passes: int,
) -> NDArray[np.int32]:
    """Chooses each code anew given all others, until none changes.

    No step raises the squared error of the outputs.

    Args:
        target: float64 array of shape `(groups, inputs, outputs)`.
        gram: float64 array of shape `(groups, inputs, inputs)`.
        grid: `MatrixGrid`.
        settled: Boolean array of the shape of `target`.
        codes: int32 array of the shape of `target`, where to start.
        passes: Integer, how often each code is chosen at most.

    Returns:
        int32 array of the shape of `target`.

    References:
        - Behdin et al., 2023, QuantEase: https://arxiv.org/abs/2309.01885
    """
    found = codes.copy()
    values = grid_values(grid, found)
    slopes = gram @ (values - target)
    for _ in range(passes):
        before = found.copy()
        for start in range(0, target.shape[1], _BLOCK):
            part = slice(start, min(start + _BLOCK, target.shape[1]))
            moved = _descend_block(
                gram[:, part, part], grid, settled, found, values, slopes, part
            )
            if moved.any():
                slopes += gram[:, :, part] @ moved
        if (found == before).all():
            break
    return found


def _descend_block(
    gram: NDArray[np.float64],
    grid: MatrixGrid,
    settled: NDArray[np.bool_],
    codes: NDArray[np.int32],
    values: NDArray[np.float64],
    slopes: NDArray[np.float64],
    part: slice,
) -> NDArray[np.float64]:
    """Changes codes and values of a block; returns how the values moved."""
    near = slopes[:, part].copy()
    moved = np.zeros_like(near)
    for i in range(part.start, part.stop):
        row = i - part.start
        curvature = gram[:, row, row, None]
        alive = curvature > 0
        wanted = values[:, i] - near[:, row] / np.where(alive, curvature, 1.0)
        nearest = grid.nearest(wanted, i)
        kept = settled[:, i] | ~alive
        codes[:, i] = np.where(kept, codes[:, i], nearest)
        value = grid.values(codes[:, i], i)
        moved[:, row] = value - values[:, i]
        values[:, i] = value
        near[:, row + 1 :] += (
            gram[:, row + 1 :, row, None] * moved[:, None, row]
        )
    return moved


def grid_values(
    grid: MatrixGrid, codes: NDArray[np.int32]
) -> NDArray[np.float64]:
    """What all codes stand for.

    Args:
        grid: `MatrixGrid`.
        codes: int32 array of shape `(groups, inputs, outputs)`.

    Returns:
        float64 array of the same shape.
    """
    values = np.empty(codes.shape)
    for i in range(codes.shape[1]):
        values[:, i] = grid.values(codes[:, i], i)
    return values
