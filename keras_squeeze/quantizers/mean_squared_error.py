"""The scale that loses the least energy."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.blocks import tiles
from keras_squeeze.quantizers.absmax import largest_magnitude, sign_scale
from keras_squeeze.quantizers.blocks import BlockCodes, block_slices
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import Quantizer, finite_float32
from keras_squeeze.quantizers.rate_distortion_choice import relative_importance
from keras_squeeze.quantizers.scale import round_scale

_COARSE = 16
_FINE = 64


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
    >>> quantizer = MeanSquaredErrorQuantizer(bits=2)
    >>> quantizer.encode(weights, importance=[0, 0, 0, 0, 1]).scale
    array([[1.5]], dtype=float32)

    References:
        - Banner et al., 2019, Post-training 4-bit quantization of convolution
          networks: https://arxiv.org/abs/1810.05723
    """

    id: ClassVar[str] = "mse"
    takes_importance: ClassVar[bool] = True

    def encode(
        self,
        array: NDArray[Any],
        axis: int | tuple[int, ...] = (),
        name: str = "",
        importance: NDArray[Any] | None = None,
    ) -> QuantizedTensor:
        """Quantizes an array.

        Args:
            array: Array of floats of any shape, finite in float32.
            axis: Integer or tuple. The axes that index the channels; not
                looked at with `granularity="per_tensor"`. Defaults to `()`.
            name: String. Where the array comes from, for the message of an
                error. Defaults to `""`.
            importance: Optional array of the same shape, not negative: the
                factor of each weight's squared error, as the diagonal of the
                Fisher information. Only ratios within a block count. Defaults
                to `None`, all equal.

        Returns:
            `QuantizedTensor`.

        Raises:
            NonFiniteError: If a value is NaN or infinite.
            SqueezeError: If `importance` does not fit the array.
        """
        values = finite_float32(array, name)
        weights = relative_importance(importance, values.shape, name)
        return self._encode(values, axis, weights)

    def encode_blocks(
        self,
        blocks: NDArray[np.float32],
        counts: NDArray[np.int64],
        importance: NDArray[np.float32] | None = None,
    ) -> BlockCodes:
        """Searches the scale of each block, and rounds to it.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.
            importance: Optional float32 array of the shape of `blocks`.
                Defaults to `None`.

        Returns:
            `BlockCodes`.
        """
        if importance is None:
            return super().encode_blocks(blocks, counts)
        weights = _at_most_one(importance)
        if self.bits == 1:
            total = np.einsum("ij,ij->i", np.abs(blocks), weights, dtype=float)
            mean = total / np.maximum(weights.sum(axis=1, dtype=float), 1e-30)
            scale = round_scale(mean, largest_code=1, up=False)
        else:
            scale = np.zeros(len(blocks), np.float32)
            for part in block_slices(blocks.shape):
                scale[part] = self._search(blocks[part], weights[part])
        return BlockCodes(self._codes(blocks, scale), scale)

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
        scale = np.zeros(len(blocks), np.float32)
        for part in block_slices(blocks.shape):
            scale[part] = self._search(blocks[part])
        return scale

    def _search(
        self,
        blocks: NDArray[np.float32],
        importance: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        peak = largest_magnitude(blocks)
        divisor = np.where(peak > 0, peak, 1.0)
        # Searched relative to the peak: squares can neither overflow nor
        # vanish, whatever the range of the weights.
        relative = np.empty(blocks.shape, np.float32)
        for tile in tiles(blocks.shape) if blocks.size else ():
            relative[tile] = blocks[tile] / divisor[tile[0], None]
        full = divisor / self.largest_code
        best = np.full(len(blocks), np.inf)
        choice = np.ones(len(blocks))
        offsets = np.arange(_COARSE, 0, -1) / _COARSE
        centre = np.zeros(len(blocks))
        for steps in (offsets, _refinement()):
            for step in steps:
                factor = np.clip(centre + step, 1.0 / _FINE, 1.0)
                error = self._error(
                    relative, divisor, full * factor, importance
                )
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
        importance: NDArray[np.float32] | None,
    ) -> NDArray[Any]:
        step = (self._rounded(scale) / divisor).astype(np.float32)[:, None]
        difference = np.divide(relative, step)
        np.rint(difference, out=difference)
        np.clip(
            difference, -self.largest_code, self.largest_code, out=difference
        )
        difference *= step
        difference -= relative
        weighted = difference
        if importance is not None:
            weighted = difference * importance
        error: NDArray[Any] = np.einsum("ij,ij->i", weighted, difference)
        return error


def _at_most_one(importance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Importance relative to the block's largest; 1 if there is none."""
    peak = importance.max(axis=1, initial=0.0, keepdims=True)
    relative = importance / np.where(peak > 0, peak, np.float32(1))
    return np.where(peak > 0, relative, np.float32(1)).astype(np.float32)


def _refinement() -> NDArray[Any]:
    reach = _FINE // _COARSE
    steps = np.arange(-reach + 1, reach)
    offsets: NDArray[Any] = steps[steps != 0] / _FINE
    return offsets
