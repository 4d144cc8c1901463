"""The scale that loses the least energy."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.absmax import largest_magnitude, sign_scale
from keras_squeeze.quantizers.quantizer import Quantizer
from keras_squeeze.quantizers.scale import round_scale

_COARSE = 16
_FINE = 64
# A slice of this many values and its temporaries stays in the cache.
_SLICE_VALUES = 1 << 16


class MeanSquaredErrorQuantizer(Quantizer):
    """Symmetric uniform quantizer whose scale minimises the squared error.

    A smaller scale clips a few large weights and rounds all others finer. The
    scale is searched for every channel (or group) between nothing and that of
    `AbsMaxQuantizer`, in sixteenths and then in sixty-fourths around the best.
    The fewer the bits, the more it gains over `AbsMaxQuantizer`.

    Args:
        bits: Integer from 1 to 8, or 16 for storage. Defaults to `8`.
        granularity: String. `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Example:
    >>> weights = np.array([1.0, 1.0, 1.0, 1.0, 1.5], "float32")
    >>> MeanSquaredErrorQuantizer(bits=2).encode(weights).scale
    array([[1.1015625]], dtype=float32)

    References:
        - Banner et al., 2019, Post-training 4-bit quantization of convolution
          networks: https://arxiv.org/abs/1810.05723
    """

    id: ClassVar[str] = "mse"

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
        if self.bits == 1:
            return sign_scale(blocks, counts)
        rows = max(1, _SLICE_VALUES // max(1, blocks.shape[1]))
        scale = np.zeros(len(blocks), np.float32)
        for start in range(0, len(blocks), rows):
            part = slice(start, start + rows)
            scale[part] = self._search(blocks[part])
        return scale

    def _search(self, blocks: NDArray[np.float32]) -> NDArray[np.float32]:
        peak = largest_magnitude(blocks)
        divisor = np.where(peak > 0, peak, 1.0)
        # Searched relative to the peak: squares can neither overflow nor
        # vanish, whatever the range of the weights.
        relative = (blocks / divisor[:, None]).astype(np.float32)
        full = divisor / self.largest_code
        best = np.full(len(blocks), np.inf)
        choice = np.ones(len(blocks))
        offsets = np.arange(_COARSE, 0, -1) / _COARSE
        centre = np.zeros(len(blocks))
        for steps in (offsets, _refinement()):
            for step in steps:
                factor = np.clip(centre + step, 1.0 / _FINE, 1.0)
                error = self._error(relative, divisor, full * factor)
                better = error < best
                best = np.where(better, error, best)
                choice = np.where(better, factor, choice)
            centre = choice
        scale = self._rounded(full * choice)
        return np.where(peak > 0, scale, np.float32(0))

    def _rounded(self, scale: NDArray[Any]) -> NDArray[np.float32]:
        return round_scale(scale, self.largest_code)

    def _error(
        self,
        relative: NDArray[np.float32],
        divisor: NDArray[Any],
        scale: NDArray[Any],
    ) -> NDArray[Any]:
        step = (self._rounded(scale) / divisor).astype(np.float32)[:, None]
        difference = np.divide(relative, step)
        np.rint(difference, out=difference)
        np.clip(
            difference, -self.largest_code, self.largest_code, out=difference
        )
        difference *= step
        difference -= relative
        error: NDArray[Any] = np.einsum("ij,ij->i", difference, difference)
        return error


def _refinement() -> NDArray[Any]:
    reach = _FINE // _COARSE
    steps = np.arange(-reach + 1, reach)
    offsets: NDArray[Any] = steps[steps != 0] / _FINE
    return offsets
