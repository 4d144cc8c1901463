"""Scales, zero points and codes of uniform grids with a zero point."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.blocks import BlockCodes
from keras_squeeze.quantizers.quantizer import in_scale_units
from keras_squeeze.quantizers.scale import round_scale
from keras_squeeze.quantizers.ternary import best_level

_LARGEST = float(np.finfo(np.float32).max)


class AffineGrid(NamedTuple):
    """One grid a block.

    Args:
        scale: float32 array of shape `(blocks,)`.
        zero_point: int16 array of shape `(blocks,)`, codes of zero.
        bits: Integer from 2.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int16]
    bits: int

    @classmethod
    def over(cls, low: NDArray[Any], high: NDArray[Any], bits: int) -> Self:
        """The grids whose levels span ranges, with zero among them.

        Args:
            low: float64 array of shape `(blocks,)`, none above 0.
            high: float64 array of shape `(blocks,)`, none below 0.
            bits: Integer from 2.

        Returns:
            `AffineGrid`; the scale is 0 where the range is empty.
        """
        steps = 2**bits - 1
        width = np.asarray(high, np.float64) - low
        # The codes on one side of zero may be all of them.
        scale = round_scale(np.minimum(width, _LARGEST) / steps, steps)
        first = -(2 ** (bits - 1))
        divisor = np.where(scale > 0, scale, 1).astype(np.float64)
        zero_point = np.clip(np.rint(first - low / divisor), first, ~first)
        zero_point = np.where(scale > 0, zero_point, 0)
        return cls(scale, zero_point.astype(np.int16), bits)

    def levels(self, blocks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each value as the nearest multiple of the scale within the grid.

        Args:
            blocks: float32 array of shape `(blocks, size)`.

        Returns:
            float32 array of whole numbers, the codes less the zero point.
        """
        steps = in_scale_units(blocks, self.scale)
        np.rint(steps, out=steps)
        first = -(2 ** (self.bits - 1))
        zero = self.zero_point.astype(np.float32)[:, None]
        return np.clip(steps, first - zero, ~first - zero, out=steps)

    def codes(self, blocks: NDArray[np.float32]) -> NDArray[Any]:
        """The code of each value.

        Args:
            blocks: float32 array of shape `(blocks, size)`.

        Returns:
            int8 array of the same shape; int16 beyond 8 bits.
        """
        dtype = np.int8 if self.bits <= 8 else np.int16
        zero = self.zero_point.astype(np.float32)[:, None]
        return (self.levels(blocks) + zero).astype(dtype)


def one_bit_codes(
    blocks: NDArray[np.float32], counts: NDArray[np.int64]
) -> BlockCodes:
    """Codes -1 and +1 whose two levels lose the least energy.

    The levels are zero and a positive one (zero point -1), a negative one and
    zero (zero point 1) or, where no weight is zero, plus and minus the mean
    magnitude (zero point 0).

    Args:
        blocks: float32 array of shape `(blocks, size)`.
        counts: int64 array of shape `(blocks,)`.

    Returns:
        `BlockCodes`.
    """
    peak = np.abs(blocks).max(axis=1, initial=0.0)
    divisor = np.where(peak > 0, peak, np.float32(1))
    relative = blocks / divisor[:, None]
    positive, positive_gain = best_level(np.maximum(relative, 0))
    negative, negative_gain = best_level(np.maximum(-relative, 0))
    number = np.maximum(counts, 1)
    total = np.abs(relative).sum(axis=1, dtype=np.float64)
    full = np.count_nonzero(blocks, axis=1) == counts
    sign_gain = np.where(full, total * (total / number), -1.0)
    gains = np.stack([sign_gain, positive_gain, negative_gain])
    choice = gains.argmax(axis=0)
    step = np.choose(choice, [total / number, positive / 2, negative / 2])
    scale = round_scale(np.minimum(step * divisor, _LARGEST / 2), 2, up=False)
    zero_point = np.choose(choice, [0, -1, 1])
    zero_point = np.where(scale > 0, zero_point, 0).astype(np.int16)
    # Halfway between both levels; a zero belongs to the level of zero.
    threshold = -zero_point[:, None] * scale[:, None].astype(np.float64)
    upper = np.where(zero_point[:, None] == 0, blocks >= 0, blocks > threshold)
    return BlockCodes(np.where(upper, 1, -1).astype(np.int8), scale, zero_point)
