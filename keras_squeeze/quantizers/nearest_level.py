"""The nearest level of a codebook to each of many values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.quantized_tensor import codebook_index

# A slice of this many values and its temporaries stays small.
_SLICE_VALUES = 1 << 18


def nearest_codes(
    values: NDArray[Any],
    codebook: NDArray[np.float32],
    bits: int,
    used: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """The codes of the levels nearest to values.

    Halfway between two levels the one of the smaller magnitude is taken, the
    positive one of a pair; among equal levels the code nearest to zero.
    Levels may stand in any order.

    Args:
        values: Array of shape `(rows, n)`, in units of the scale. Infinities
            go to the outermost level.
        codebook: float32 array of shape `(1, 2 ** bits)`, for all rows, or
            `(rows, 2 ** bits)`.
        bits: Integer from 1 to 8.
        used: Optional array of booleans of the codebook's shape: which
            entries may be taken, at least one a row. Defaults to `None`, all.

    Returns:
        int8 array of shape `(rows, n)`; with one bit of -1 and +1.

    Raises:
        SqueezeError: If the codebook does not fit, or a row of it has no
            entry in use.

    Example:
    >>> levels = np.array([[-1.0, -0.5, 0.0, 1.0]], "float32")
    >>> nearest_codes(np.array([[-0.8, -0.25, 0.4, 9.0]]), levels, bits=2)
    array([[-2,  0,  0,  1]], dtype=int8)
    """
    _check_shapes(values, codebook, bits, used)
    codes = np.empty(values.shape, np.int8)
    shared = len(codebook) == 1
    rows = [(values.reshape(-1), codes.reshape(-1))]
    if not shared:
        rows = list(zip(values, codes, strict=True))
    for row, (source, target) in enumerate(rows):
        allowed = None if used is None else used[row]
        thresholds, table = _cells(codebook[row], bits, allowed)
        for start in range(0, len(source), _SLICE_VALUES):
            part = slice(start, start + _SLICE_VALUES)
            target[part] = table[np.searchsorted(thresholds, source[part])]
    return codes


def _cells(
    levels: NDArray[np.float32], bits: int, used: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Ascending thresholds, and the code of each cell between them."""
    codes = place_codes(bits)
    if used is not None:
        levels, codes = levels[used], codes[used]
    order = np.lexsort((codes < 0, np.abs(codes.astype(np.int64)), levels))
    exact = levels[order].astype(np.float64)
    first = np.flatnonzero(np.diff(exact, prepend=-np.inf) > 0)
    exact = exact[first]
    middle = (exact[:-1] + exact[1:]) / 2
    # A value on a threshold falls into the cell below it.
    below = np.nextafter(middle, -np.inf)
    return np.where(middle > 0, middle, below), codes[order][first]


def level_cells(
    levels: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The cells that `nearest_codes` puts float32 values into.

    Args:
        levels: float32 array of shape `(2 ** bits,)`.
        bits: Integer from 1 to 8.

    Returns:
        Pair of float32 arrays: `n` distinct levels in ascending order, and
        `n - 1` thresholds: a float32 value above a threshold belongs to one
        of the levels above it, as `nearest_codes` says.

    Example:
    >>> level_cells(np.array([0.0, -1.0, 0.0, 3.0], "float32"), bits=2)[1]
    array([-0.50000006,  1.5       ], dtype=float32)
    """
    exact, codes = _cells(levels, bits, None)
    thresholds = exact.astype(np.float32)
    above = thresholds.astype(np.float64) > exact
    below = np.nextafter(thresholds, np.float32(-np.inf))
    places = codebook_index(codes, bits)
    return levels[places], np.where(above, below, thresholds)


def place_codes(bits: int) -> NDArray[np.int8]:
    """The codes of a codebook's entries; undoes `codebook_index`.

    Args:
        bits: Integer from 1 to 8.

    Returns:
        int8 array of shape `(2 ** bits,)`.

    Example:
    >>> place_codes(1).tolist(), place_codes(2).tolist()
    ([-1, 1], [-2, -1, 0, 1])
    """
    if bits == 1:
        return np.array([-1, 1], np.int8)
    half = 2 ** (bits - 1)
    return np.arange(-half, half).astype(np.int8)


def _check_shapes(
    values: NDArray[Any],
    codebook: NDArray[np.float32],
    bits: int,
    used: NDArray[np.bool_] | None,
) -> None:
    size = 2**bits
    fits = values.ndim == 2 and codebook.shape in (
        (1, size),
        (len(values), size),
    )
    if not fits or (used is not None and used.shape != codebook.shape):
        raise SqueezeError(
            f"Expected values of shape (rows, n) and a codebook of shape "
            f"(1, {size}) or (rows, {size}) for {bits} bits. Received: values "
            f"of shape {values.shape}, a codebook of shape {codebook.shape}, "
            f"used={None if used is None else used.shape}"
        )
    if used is not None and not used.any(axis=1).all():
        raise SqueezeError(
            "Expected an entry in use in each row of the codebook. Received: "
            f"none in row {int(np.argmin(used.any(axis=1)))}"
        )
