"""The scale that just fits the largest magnitude."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.quantizer import Quantizer
from keras_squeeze.quantizers.scale import round_scale


class AbsMaxQuantizer(Quantizer):
    """Symmetric uniform quantizer whose largest code is the largest weight.

    Nothing is clipped: the error of a weight is at most half a step (and one
    rounding of the scale to 8 bits). Best from 6 bits upwards; below,
    `MeanSquaredErrorQuantizer` loses less. With `bits=1` the code is the sign
    and the scale the mean magnitude.

    Args:
        bits: Integer from 1 to 8, or 16 for storage. Defaults to `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> quantizer = AbsMaxQuantizer(bits=4)
    >>> quantizer.encode(np.array([0.0, 0.5, -3.5], "float32")).codes
    array([ 0,  1, -7], dtype=int8)

    References:
        - Rastegari et al., 2016, XNOR-Net (the one-bit scale):
          https://arxiv.org/abs/1603.05279
    """

    id: ClassVar[str] = "absmax"

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Chooses the largest magnitude over the largest code.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        if self.bits == 1:
            return sign_scale(blocks, counts)
        return round_scale(
            largest_magnitude(blocks) / self.largest_code, self.largest_code
        )


def largest_magnitude(blocks: NDArray[np.float32]) -> NDArray[Any]:
    """Largest magnitude of each block, as float64; 0 for an empty block."""
    high = blocks.max(axis=1, initial=0.0)
    low = blocks.min(axis=1, initial=0.0)
    magnitude: NDArray[Any] = np.maximum(high, -low).astype(np.float64)
    return magnitude


def sign_scale(
    blocks: NDArray[np.float32], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Mean magnitude of each block: the best scale for sign codes."""
    total = np.abs(blocks).sum(axis=1, dtype=np.float64)
    mean = total / np.maximum(counts, 1)
    return round_scale(mean, largest_code=1, up=False)
