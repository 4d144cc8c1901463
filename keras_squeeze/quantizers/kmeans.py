"""The codebook that loses the least energy: k-means on a line."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.blocks import join_blocks, split_blocks
from keras_squeeze.quantizers.kmeans_levels import SortedValues, optimal_levels
from keras_squeeze.quantizers.layout import (
    from_canonical,
    group_count,
    normalize_axis,
    to_canonical,
)
from keras_squeeze.quantizers.learned_codebook import (
    place_levels,
    round_levels,
    without_unused,
)
from keras_squeeze.quantizers.nearest_level import nearest_codes
from keras_squeeze.quantizers.quantized_tensor import QuantizedTensor
from keras_squeeze.quantizers.quantizer import (
    Quantizer,
    finite_float32,
    in_scale_units,
)
from keras_squeeze.quantizers.rate_distortion_choice import relative_importance
from keras_squeeze.quantizers.scale import round_scale

# A weight without importance still gets the level nearest to it.
_LEAST_IMPORTANCE = 1e-9


class KMeansQuantizer(Quantizer):
    """Codebook of the `2 ** bits` levels that leave the least squared error.

    The levels are those of k-means, found by dynamic programming: the best
    there are, not the best of some random starts, and the same each time
    (`kmeans_levels.optimal_levels` says when and by how little long arrays
    miss them). With `importance` each weight's squared error counts by its
    own factor ("gradient mapping", where the factors come from gradients);
    `"absmax"` and `"mse"` have levels of equal intervals instead.

    Weights that are exactly zero stay so: one level is zero wherever there
    is one. An array of no more distinct values than levels comes back
    exactly.

    Args:
        bits: Integer from 1 to 8. Defaults to `8`.
        granularity: String. `"per_channel"`: every channel has a codebook of
            its own, which takes room in a file. `"per_tensor"`: one codebook.
            `"per_group"`: one codebook, of values divided by the root mean
            square of their group; with a `group_size` as large as a channel,
            by that of their channel. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        zero_level: Boolean. Whether there is a level at zero even where no
            weight is zero. Defaults to `False`.

    Example:
    >>> weights = np.array([0.0, 0.0, 0.9, 1.1, 4.9, 5.1, -0.4], "float32")
    >>> tensor = KMeansQuantizer(bits=2).encode(weights)
    >>> tensor.dequantize().round(2).tolist()
    [0.0, 0.0, 1.0, 1.0, 5.0, 5.0, -0.4000000059604645]

    References:
        - Wang and Song, 2011, Ckmeans.1d.dp: Optimal k-means clustering in
          one dimension by dynamic programming.
        - Han et al., 2016, Deep compression: https://arxiv.org/abs/1510.00149
        - Choi et al., 2017, Towards the limit of network quantization (the
          weighted error): https://arxiv.org/abs/1612.01543
    """

    id: ClassVar[str] = "kmeans"
    takes_importance: ClassVar[bool] = True
    supported_bits: ClassVar[tuple[int, ...]] = tuple(range(1, 9))
    learns_codebook: ClassVar[bool] = True

    def __init__(
        self,
        bits: int = 8,
        granularity: str = "per_channel",
        group_size: int | None = None,
        zero_level: bool = False,
    ) -> None:
        super().__init__(bits, granularity, group_size)
        self.zero_level = bool(zero_level)

    def codebook_rows(self, channels: int) -> int:
        """How many codebooks a tensor of so many channels has.

        Args:
            channels: Integer.

        Returns:
            Integer: `channels` with `"per_channel"`, else `1`.
        """
        return channels if self.granularity == "per_channel" else 1

    @property
    def _scales_blocks(self) -> bool:
        """Whether values are divided by a scale before levels are learned."""
        return self.granularity == "per_group"

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """One, or the root mean square of each group.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        if not self._scales_blocks:
            return np.ones(len(blocks), np.float32)
        return root_mean_square(blocks, counts)

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
                Fisher information. Only ratios within the tensor count.
                Defaults to `None`, all equal.

        Returns:
            `QuantizedTensor` with a codebook.

        Raises:
            NonFiniteError: If a value is NaN or infinite.
            SqueezeError: If `importance` does not fit the array.
        """
        values = finite_float32(array, name)
        weights = relative_importance(importance, values.shape, name)
        kept = normalize_axis(axis, values.ndim)
        kept = () if self.granularity == "per_tensor" else kept
        canonical = to_canonical(values, kept)
        channels, rest = canonical.shape
        blocks, counts = split_blocks(canonical, self.group_size)
        scale = self.choose_scale(blocks, counts)
        scaled = join_blocks(in_scale_units(blocks, scale), channels, rest)
        shares = None
        # If nothing is important, nothing is more so than the rest.
        if weights is not None and weights.any():
            shares = to_canonical(weights, kept).astype(np.float64)
        if self._scales_blocks:
            shares = _in_scale_units(shares, scale, counts, scaled.shape)
        codebook, codes = self._learn(scaled, shares)
        return QuantizedTensor(
            codes=from_canonical(codes, values.shape, kept),
            scale=scale.reshape(channels, group_count(rest, self.group_size)),
            bits=self.bits,
            axis=kept,
            group_size=self.group_size,
            codebook=codebook,
        )

    def _learn(
        self, values: NDArray[np.float32], weights: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        shape = values.shape
        rows = self.codebook_rows(shape[0])
        whole = shape if rows == shape[0] else (1, values.size)
        by_row = values.reshape(whole)
        shares = [None] * rows if weights is None else weights.reshape(whole)
        levels = optimal_levels(
            [
                SortedValues.of(
                    row, None if share is None else positive_weights(share)
                )
                for row, share in zip(by_row, shares, strict=True)
            ],
            2**self.bits,
            [self.zero_level or bool((row == 0).any()) for row in by_row],
        )
        codebook, used = place_levels(
            [self._rounded(row) for row in levels], self.bits
        )
        codes = nearest_codes(by_row, codebook, self.bits, used)
        codebook = without_unused(codebook, codes, self.bits)
        return codebook, codes.reshape(shape)

    def _rounded(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        # Fewer levels than there may be are the values themselves.
        exact = levels.astype(np.float32)
        if len(levels) <= 2**self.bits and np.array_equal(exact, levels):
            return levels
        return round_levels(levels, self.bits)

    def get_config(self) -> dict[str, Any]:
        """The quantizer as JSON-ready values.

        Returns:
            Dictionary with the `id` and the arguments of the constructor.
        """
        return {**super().get_config(), "zero_level": self.zero_level}


def root_mean_square(
    blocks: NDArray[np.float32], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Root mean square of each block, rounded as scales are.

    Args:
        blocks: float32 array of shape `(blocks, size)`, padded with zeros.
        counts: int64 array of shape `(blocks,)`: values before padding.

    Returns:
        float32 array of shape `(blocks,)`.
    """
    exact = blocks.astype(np.float64)
    mean = np.einsum("ij,ij->i", exact, exact) / np.maximum(counts, 1)
    return round_scale(np.sqrt(mean), largest_code=1, up=False)


def _in_scale_units(
    weights: NDArray[np.float64] | None,
    scale: NDArray[np.float32],
    counts: NDArray[np.int64],
    shape: tuple[int, ...],
) -> NDArray[np.float64]:
    """Errors of scaled values count by the square of their scale."""
    factors = scale.astype(np.float64) ** 2
    mean = float(factors @ counts) / max(1, int(counts.sum()))
    factors = factors / mean if mean > 0 else np.ones_like(factors)
    spread = np.repeat(factors, counts).reshape(shape)
    return spread if weights is None else spread * weights


def positive_weights(weights: NDArray[Any]) -> NDArray[np.float64]:
    """Weights of mean 1, none of them zero.

    Args:
        weights: Array, not negative.

    Returns:
        float64 array of the same shape; all 1 if no weight is positive.
    """
    exact = weights.astype(np.float64)
    mean = float(exact.mean()) if exact.size else 0.0
    relative = exact / mean if mean > 0 else np.ones_like(exact)
    return np.maximum(relative, _LEAST_IMPORTANCE)
