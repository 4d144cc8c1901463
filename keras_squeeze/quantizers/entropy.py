"""The scale that keeps the distribution of the weights."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.absmax import largest_magnitude, sign_scale
from keras_squeeze.quantizers.divergence import least_divergent_threshold
from keras_squeeze.quantizers.quantizer import Quantizer
from keras_squeeze.quantizers.scale import round_scale


class EntropyQuantizer(Quantizer):
    """Symmetric uniform quantizer that clips where least information is lost.

    For each of up to 128 thresholds, the histogram of the magnitudes clipped
    there is compared with the one that is left after quantization; the scale
    is that of the least Kullback-Leibler divergence. Weights that are zero
    are not counted: they stay exact. It was made for activations; on weights
    `MeanSquaredErrorQuantizer` is usually the better choice. Blocks with
    too few values for a histogram, less than eight a code, are not clipped.
    With `bits=1` the scale is the mean magnitude.

    Args:
        bits: Integer from 1 to 8, or 16 for storage. Defaults to `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> weights = np.random.default_rng(0).normal(size=4000)
    >>> weights[0] = 50.0
    >>> EntropyQuantizer(bits=4).encode(weights).dequantize().max() < 10
    np.True_

    References:
        - Migacz, 2017, 8-bit inference with TensorRT, GPU Technology
          Conference.
    """

    id: ClassVar[str] = "entropy"

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Finds the scale of the least divergence.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        if self.bits == 1:
            return sign_scale(blocks, counts)
        peak = largest_magnitude(blocks)
        threshold = least_divergent_threshold(blocks, peak, self.largest_code)
        return round_scale(
            peak * threshold / self.largest_code, self.largest_code
        )
