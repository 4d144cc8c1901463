"""Four bits for weights that are normally distributed."""

from __future__ import annotations

from typing import ClassVar

from keras_squeeze.quantizers.fixed_codebook_quantizer import (
    FixedCodebookQuantizer,
)


class NormalFloat4Quantizer(FixedCodebookQuantizer):
    """Quantizer to the 16 levels of NF4.

    They are quantiles of the normal distribution, closer around zero; the
    largest magnitude of a block becomes 1. Made for small groups, as
    `granularity="per_group", group_size=64`: over thousands of values the
    largest lies far out and the levels no longer fit.

    Args:
        bits: Integer, `4`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> import numpy as np
    >>> weights = np.array([0.0, 1.0, -0.5], "float32")
    >>> NormalFloat4Quantizer().encode(weights).dequantize()
    array([ 0.        ,  1.        , -0.52507305], dtype=float32)

    References:
        - Dettmers et al., 2023, QLoRA: https://arxiv.org/abs/2305.14314
    """

    id: ClassVar[str] = "nf4"
    supported_bits: ClassVar[tuple[int, ...]] = (4,)

    def __init__(
        self,
        bits: int = 4,
        granularity: str = "per_channel",
        group_size: int | None = None,
    ) -> None:
        super().__init__(bits, granularity, group_size)
