"""The scale that leaves a share of the weights outside."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.absmax import sign_scale
from keras_squeeze.quantizers.quantizer import Quantizer
from keras_squeeze.quantizers.scale import round_scale


class PercentileQuantizer(Quantizer):
    """Symmetric uniform quantizer that clips the largest weights.

    The largest code stands for a percentile of the magnitudes, so a few
    outliers do not make the grid coarse for all others. Weights that are zero
    are not counted: they cost no precision, however many there are. With
    `bits=1` nothing can be clipped: the scale is the mean magnitude.

    Args:
        bits: Integer from 1 to 8, or 16 for storage. Defaults to `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        percentile: Float above 0 and at most 100. Defaults to `99.9`.

    Raises:
        SqueezeError: If an argument is out of its range.

    Example:
    >>> weights = np.array([0.0, 1.0, -2.0, 3.0, 100.0], "float32")
    >>> quantizer = PercentileQuantizer(bits=3, percentile=60)
    >>> quantizer.encode(weights).codes.tolist()
    [0, 1, -2, 3, 3]

    References:
        - McKinstry et al., 2018, Discovering low-precision networks close to
          full-precision networks: https://arxiv.org/abs/1809.04191
    """

    id: ClassVar[str] = "percentile"

    def __init__(
        self,
        bits: int = 8,
        granularity: str = "per_channel",
        group_size: int | None = None,
        percentile: float = 99.9,
    ) -> None:
        super().__init__(bits, granularity, group_size)
        check_percentile(percentile)
        self.percentile = percentile

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Chooses the percentile of the magnitudes over the largest code.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        if self.bits == 1:
            return sign_scale(blocks, counts)
        peak = magnitude_percentile(np.abs(blocks), self.percentile)
        return round_scale(peak / self.largest_code, self.largest_code)

    def get_config(self) -> dict[str, Any]:
        """The quantizer as JSON-ready values.

        Returns:
            Dictionary with the `id` and the arguments of the constructor.
        """
        return {**super().get_config(), "percentile": self.percentile}


def magnitude_percentile(
    magnitudes: NDArray[np.float32], percentile: float
) -> NDArray[np.float64]:
    """A percentile of the values above zero in each row.

    Args:
        magnitudes: float32 array of shape `(rows, n)`, not negative.
        percentile: Float from 0 to 100, interpolated linearly.

    Returns:
        float64 array of shape `(rows,)`, 0 for a row of zeros.

    Example:
    >>> magnitude_percentile(np.array([[0.0, 2.0, 1.0, 0.0]]), 50)
    array([1.5])
    """
    size = magnitudes.shape[1]
    if size == 0:
        return np.zeros(len(magnitudes))
    ascending = np.sort(magnitudes, axis=1)
    count = np.count_nonzero(ascending, axis=1)
    place = np.maximum(count - 1, 0) * (percentile / 100)
    place += size - np.maximum(count, 1)
    below = np.floor(place).astype(np.intp)
    above = np.minimum(below + 1, size - 1)
    rows = np.arange(len(ascending))
    low = ascending[rows, below].astype(np.float64)
    high = ascending[rows, above].astype(np.float64)
    result: NDArray[np.float64] = low + (high - low) * (place - below)
    return result


def check_percentile(percentile: float) -> None:
    """Raises `SqueezeError` unless a number is above 0 and at most 100."""
    number = isinstance(percentile, int | float) and not isinstance(
        percentile, bool
    )
    if not number or not 0 < percentile <= 100:
        raise SqueezeError(
            "Expected `percentile` to be a number above 0 and at most 100. "
            f"Received: percentile={percentile!r}"
        )
