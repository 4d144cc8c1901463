"""Uniform grids that need not be symmetric around zero."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.affine_grid import AffineGrid, one_bit_codes
from keras_squeeze.quantizers.affine_search import least_squares_range
from keras_squeeze.quantizers.blocks import BlockCodes, block_slices
from keras_squeeze.quantizers.percentile import (
    check_percentile,
    magnitude_percentile,
)
from keras_squeeze.quantizers.quantizer import Quantizer

SCALE_RULES = ("absmax", "percentile", "mse")


class AffineQuantizer(Quantizer):
    """Uniform quantizer with a zero point: `(code - zero_point) * scale`.

    All `2**bits` codes are used, one more than on a symmetric grid, and the
    range may lie on one side of zero more than on the other. On weights that
    are symmetric as a whole that is worth about 1 dB at 2 and 3 bits and half
    of it at 4; in small groups, which seldom are symmetric, more. A zero point
    a scale is stored for it. Zero is always one of the levels, so pruned
    weights stay pruned.

    With `bits=1` the two levels of a block are zero and one other, or, where
    no weight is zero and the error is less, plus and minus the same.

    Args:
        bits: Integer from 1 to 8, or 16 for storage. Defaults to `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        scale_rule: String, how both ends of the range are chosen:
            `"absmax"`, the smallest and the largest weight; `"percentile"`,
            that percentile of the magnitudes on either side; or `"mse"`, by a
            search for the least squared error. Defaults to `"mse"`.
        percentile: Float above 0 and at most 100, for
            `scale_rule="percentile"`. Defaults to `99.9`.

    Raises:
        SqueezeError: If an argument is out of its range.

    Example:
    >>> weights = np.array([0.0, 0.5, 1.0, 1.5], "float32")
    >>> tensor = AffineQuantizer(bits=2).encode(weights)
    >>> tensor.codes.tolist(), tensor.zero_point.item(), tensor.scale.item()
    ([-2, -1, 0, 1], -2, 0.5)

    References:
        - Jacob et al., 2018, Quantization and training of neural networks for
          efficient integer-arithmetic-only inference:
          https://arxiv.org/abs/1712.05877
    """

    id: ClassVar[str] = "affine"
    affine: ClassVar[bool] = True

    def __init__(
        self,
        bits: int = 8,
        granularity: str = "per_channel",
        group_size: int | None = None,
        scale_rule: str = "mse",
        percentile: float = 99.9,
    ) -> None:
        super().__init__(bits, granularity, group_size)
        if scale_rule not in SCALE_RULES:
            raise SqueezeError(
                f"Expected `scale_rule` to be one of {SCALE_RULES}. "
                f"Received: scale_rule={scale_rule!r}"
            )
        check_percentile(percentile)
        self.scale_rule = scale_rule
        self.percentile = percentile

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Chooses the scale of each block, without its zero point.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        return self.encode_blocks(blocks, counts).scale

    def encode_blocks(
        self,
        blocks: NDArray[np.float32],
        counts: NDArray[np.int64],
        importance: NDArray[np.float32] | None = None,
    ) -> BlockCodes:
        """Chooses scale, zero point and codes of each block.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.
            importance: `None`; errors are not weighted.

        Returns:
            `BlockCodes`.
        """
        if self.bits == 1:
            return one_bit_codes(blocks, counts)
        scale = np.zeros(len(blocks), np.float32)
        zero_point = np.zeros(len(blocks), np.int16)
        codes = np.zeros(blocks.shape, np.int8 if self.bits <= 8 else np.int16)
        for part in block_slices(blocks.shape):
            low, high = self._range(blocks[part])
            grid = AffineGrid.over(low, high, self.bits)
            scale[part] = grid.scale
            zero_point[part] = grid.zero_point
            codes[part] = grid.codes(blocks[part])
        return BlockCodes(codes, scale, zero_point)

    def _range(
        self, blocks: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.scale_rule == "mse":
            return least_squares_range(blocks, self.bits)
        percentile = self.percentile if self.scale_rule == "percentile" else 100
        low = magnitude_percentile(np.maximum(-blocks, 0), percentile)
        high = magnitude_percentile(np.maximum(blocks, 0), percentile)
        return -low, high

    def get_config(self) -> dict[str, Any]:
        """The quantizer as JSON-ready values.

        Returns:
            Dictionary with the `id` and the arguments of the constructor.
        """
        return {
            **super().get_config(),
            "scale_rule": self.scale_rule,
            "percentile": self.percentile,
        }
