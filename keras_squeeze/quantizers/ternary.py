"""The best of all grids of -1, 0 and 1."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.blocks import block_slices
from keras_squeeze.quantizers.quantizer import Quantizer
from keras_squeeze.quantizers.scale import round_scale


class TernaryQuantizer(Quantizer):
    """Quantizer to `-scale`, 0 and `scale` with the least squared error.

    Which weights become zero and the scale of the others are the exact
    optimum over all thresholds, not the usual estimate of 0.7 times the mean
    magnitude: only the rounding of the scale to 8 bits comes after it.

    Args:
        bits: Integer, `2`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> weights = np.array([0.1, -1.0, 1.5, 0.3], "float32")
    >>> tensor = TernaryQuantizer().encode(weights)
    >>> tensor.codes.tolist(), tensor.scale.item()
    ([0, -1, 1, 0], 1.25)

    References:
        - Li et al., 2016, Ternary weight networks:
          https://arxiv.org/abs/1605.04711
    """

    id: ClassVar[str] = "ternary"
    supported_bits: ClassVar[tuple[int, ...]] = (2,)

    def __init__(
        self,
        bits: int = 2,
        granularity: str = "per_channel",
        group_size: int | None = None,
    ) -> None:
        super().__init__(bits, granularity, group_size)

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Finds the scale of the least squared error.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        level = np.zeros(len(blocks))
        for part in block_slices(blocks.shape):
            level[part] = best_level(np.abs(blocks[part]))[0]
        return round_scale(level, largest_code=1, up=False)


def best_level(
    magnitudes: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best single level beside zero for the values of each row.

    With the `k` largest values at the level, their mean, the error falls by
    `sum(largest)**2 / k`: the best `k` is found by trying all.

    Args:
        magnitudes: float32 array of shape `(rows, n)`, not negative.

    Returns:
        Pair of float64 arrays of shape `(rows,)`: the level, 0 for a row of
        zeros, and by how much the squared error is below that of all zeros.
    """
    if magnitudes.shape[1] == 0:
        return np.zeros(len(magnitudes)), np.zeros(len(magnitudes))
    descending = -np.sort(-magnitudes, axis=1)
    total = np.cumsum(descending, axis=1, dtype=np.float64)
    taken = np.arange(1, magnitudes.shape[1] + 1)
    gain = total * (total / taken)
    best = gain.argmax(axis=1)[:, None]
    level = np.take_along_axis(total / taken, best, axis=1)[:, 0]
    return level, np.take_along_axis(gain, best, axis=1)[:, 0]
