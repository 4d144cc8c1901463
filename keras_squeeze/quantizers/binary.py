"""Signs and one magnitude."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.absmax import sign_scale
from keras_squeeze.quantizers.quantizer import Quantizer


class BinaryQuantizer(Quantizer):
    """Quantizer to the sign of each weight times the mean magnitude.

    There is no zero: pruned weights come back as small ones, so take
    `TernaryQuantizer` for a pruned model. A block of zeros stays zero.

    Args:
        bits: Integer, `1`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> weights = np.array([0.5, -1.0, 1.5], "float32")
    >>> BinaryQuantizer().encode(weights).dequantize()
    array([ 1., -1.,  1.], dtype=float32)

    References:
        - Rastegari et al., 2016, XNOR-Net: https://arxiv.org/abs/1603.05279
    """

    id: ClassVar[str] = "binary"
    supported_bits: ClassVar[tuple[int, ...]] = (1,)

    def __init__(
        self,
        bits: int = 1,
        granularity: str = "per_channel",
        group_size: int | None = None,
    ) -> None:
        super().__init__(bits, granularity, group_size)

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Computes the mean magnitude, the best scale for signs.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        return sign_scale(blocks, counts)
