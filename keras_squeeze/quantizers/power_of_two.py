"""Levels that need shifts instead of multiplications."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.blocks import block_slices
from keras_squeeze.quantizers.fixed_codebook_quantizer import (
    FixedCodebookQuantizer,
)
from keras_squeeze.quantizers.scale import codebook_scale
from keras_squeeze.quantizers.sorted_magnitudes import SortedMagnitudes

# Candidates an octave, and how often the best is improved after them.
_STEPS = 16
_IMPROVEMENTS = 4
# Smaller levels carry too little energy to move the scale.
_LEVELS_THAT_COUNT = 8


class PowerOfTwoQuantizer(FixedCodebookQuantizer):
    """Quantizer to 0 and plus or minus powers of two, times a scale.

    The levels are `1, 1/2, 1/4, ...`: a product with one of them is a shift.
    The scale is searched for the least squared error. More bits add smaller
    levels only, not finer ones: beyond 4 bits little is gained, beyond 7
    nothing.

    Args:
        bits: Integer from 2 to 8. Defaults to `4`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> weights = np.array([0.0, 1.0, -0.5, 0.26, 0.24], "float32")
    >>> PowerOfTwoQuantizer().encode(weights).dequantize()
    array([ 0.  ,  1.  , -0.5 ,  0.25,  0.25], dtype=float32)

    References:
        - Zhou et al., 2017, Incremental network quantization:
          https://arxiv.org/abs/1702.03044
    """

    id: ClassVar[str] = "power_of_two"
    supported_bits: ClassVar[tuple[int, ...]] = tuple(range(2, 9))

    def __init__(
        self,
        bits: int = 4,
        granularity: str = "per_channel",
        group_size: int | None = None,
    ) -> None:
        super().__init__(bits, granularity, group_size)

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Searches the scale of the smallest squared error.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        positive = self.levels[self.levels > 0][-_LEVELS_THAT_COUNT:]
        # The fewer levels, the more of the largest weights are clipped.
        octaves = {1: 5, 3: 4}.get(len(positive), 2)
        factors = np.exp2(
            np.arange(_STEPS // 2, -octaves * _STEPS, -1) / _STEPS
        )
        scale = np.zeros(len(blocks))
        for part in block_slices(blocks.shape):
            magnitudes = SortedMagnitudes(blocks[part])
            scale[part] = magnitudes.best_scale(
                positive.astype(np.float64), factors, _IMPROVEMENTS
            )
        return codebook_scale(scale, self.levels, up=False)
