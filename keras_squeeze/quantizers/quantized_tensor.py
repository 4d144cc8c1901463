"""What a quantizer makes of an array: integer codes and their scales."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.blocks import tiles
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import SqueezeError
from keras_squeeze.quantizers.layout import (
    canonical_shape,
    from_canonical,
    group_count,
    to_canonical,
)


@dataclasses.dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Integer codes, and what turns each of them into a float.

    A code stands for `code * scale`; with a zero point for
    `(code - zero_point) * scale`; with a codebook for
    `codebook[code + 2 ** (bits - 1)] * scale`. That is at most one rounding
    in float32 (none on uniform grids, whose scales have 8 significant bits):
    the decoded bits are equal on every machine, whatever its instruction set.

    Codes lie in `[-2 ** (bits - 1), 2 ** (bits - 1) - 1]`; with one bit they
    are -1 and +1, the two entries of a codebook in this order.

    Args:
        codes: Array of the original shape, int8 for `bits <= 8`, else int16.
        scale: float32 array of shape `(channels, groups)`.
        bits: Integer. Width of a code.
        axis: Ascending tuple of the axes that index the channels, `()` for
            one scale for the whole tensor.
        group_size: Integer, the number of values that share a scale along the
            flattened remaining dimensions; `None` for all of them.
        trellis: Optional `codecs.trellis.Trellis`. The machine the codes obey,
            for codecs that can follow it; dequantization needs it not.
            Defaults to `None`.
        zero_point: Optional int16 array of the shape of `scale`: the codes
            that stand for zero. Defaults to `None`, all zero.
        codebook: Optional float32 array of shape `(1, 2 ** bits)` or
            `(channels, 2 ** bits)`: the values of the codes in ascending
            order of codes, before they are scaled. Entries of codes that do
            not occur are 0. Defaults to `None`.

    Example:
    >>> codes = np.array([[1, -1], [0, 2]], "int8")
    >>> scale = np.array([[0.5], [2.0]], "float32")
    >>> QuantizedTensor(codes, scale, bits=8, axis=(0,)).dequantize()
    array([[ 0.5, -0.5],
           [ 0. ,  4. ]], dtype=float32)
    """

    codes: NDArray[Any]
    scale: NDArray[np.float32]
    bits: int
    axis: tuple[int, ...] = ()
    group_size: int | None = None
    trellis: Trellis | None = None
    zero_point: NDArray[np.int16] | None = None
    codebook: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        channels, rest = canonical_shape(self.codes.shape, self.axis)
        expected = (channels, group_count(rest, self.group_size))
        if self.scale.shape != expected:
            raise SqueezeError(
                f"Expected scales of shape {expected} for codes of shape "
                f"{self.codes.shape}, axis={self.axis}, "
                f"group_size={self.group_size}. Received: {self.scale.shape}"
            )
        if self.zero_point is not None and self.codebook is not None:
            raise SqueezeError(
                "Expected a zero point or a codebook. Received: both"
            )
        if self.zero_point is not None and self.zero_point.shape != expected:
            raise SqueezeError(
                f"Expected zero points of the scales' shape {expected}. "
                f"Received: {self.zero_point.shape}"
            )
        if self.codebook is not None:
            self._check_codebook(self.codebook, channels)

    def _check_codebook(
        self, codebook: NDArray[np.float32], channels: int
    ) -> None:
        size = 2**self.bits
        if self.bits > 8 or codebook.shape not in ((1, size), (channels, size)):
            raise SqueezeError(
                f"Expected at most 8 bits and a codebook of shape (1, {size}) "
                f"or ({channels}, {size}) for {self.bits} bits. "
                f"Received: {codebook.shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that was encoded."""
        return self.codes.shape

    def dequantize(self) -> NDArray[np.float32]:
        """The array the codes stand for.

        Returns:
            float32 array of the original shape.

        Raises:
            SqueezeError: If a code has no entry in the codebook.
        """
        uniform = self.codebook is None and self.zero_point is None
        if uniform and self.scale.shape[1] <= 1:
            kept = [
                n if a in self.axis else 1 for a, n in enumerate(self.shape)
            ]
            values = self.codes.astype(np.float32, order="C")
            values *= self.scale.reshape(kept)
            return values
        codes = to_canonical(self.codes, self.axis)
        out = np.empty(codes.shape, np.float32)
        for tile in tiles(codes.shape) if codes.size else ():
            levels = self._levels(codes[tile], tile)
            out[tile] = levels * self._per_value(self.scale, tile)
        return from_canonical(out, self.shape, self.axis)

    def _levels(
        self, codes: NDArray[Any], tile: tuple[slice, ...]
    ) -> NDArray[np.float32]:
        if self.codebook is not None:
            return self._entries(codes, self.codebook, tile[0])
        if self.zero_point is not None:
            codes = codes.astype(np.int32)
            codes -= self._per_value(self.zero_point, tile)
        return codes.astype(np.float32)

    def _entries(
        self, codes: NDArray[Any], codebook: NDArray[np.float32], rows: slice
    ) -> NDArray[np.float32]:
        places = codebook_index(codes, self.bits)
        if not 0 <= places.min() <= places.max() < 2**self.bits:
            raise SqueezeError(
                f"Expected codes of {self.bits} bits for a codebook. Received: "
                f"codes from {self.codes.min()} to {self.codes.max()}"
            )
        levels: NDArray[np.float32] = (
            codebook[0][places]
            if len(codebook) == 1
            else np.take_along_axis(codebook[rows], places, axis=1)
        )
        return levels

    def _per_value(
        self, array: NDArray[Any], tile: tuple[slice, ...]
    ) -> NDArray[Any]:
        """What belongs to each value of a tile of the canonical codes."""
        rows, columns = tile
        if array.shape[1] <= 1 or not self.group_size:
            return array[rows]
        groups = np.arange(columns.start, columns.stop) // self.group_size
        return array[rows][:, groups]


def codebook_index(codes: NDArray[Any], bits: int) -> NDArray[np.intp]:
    """The entries of a codebook that codes stand for.

    Args:
        codes: Array of integers.
        bits: Integer from 1 to 8.

    Returns:
        Array of the same shape.
    """
    places: NDArray[np.intp] = codes.astype(np.intp) + 2 ** (bits - 1)
    if bits == 1:
        # The two codes of one bit are -1 and +1.
        places >>= 1
    return places
