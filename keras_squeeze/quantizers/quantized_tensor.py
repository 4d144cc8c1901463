"""What a quantizer makes of an array: integer codes and their scales."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """Integer codes, and the scale that turns each of them into a float.

    Codes have at most 8 bits and scales 8 significant bits (16-bit codes fit
    too), so their product is exact in float32: the decoded bits are equal on
    every machine, whatever its instruction set.

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

    def __post_init__(self) -> None:
        channels, rest = canonical_shape(self.codes.shape, self.axis)
        expected = (channels, group_count(rest, self.group_size))
        if self.scale.shape != expected:
            raise SqueezeError(
                f"Expected scales of shape {expected} for codes of shape "
                f"{self.codes.shape}, axis={self.axis}, "
                f"group_size={self.group_size}. Received: {self.scale.shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that was encoded."""
        return self.codes.shape

    def dequantize(self) -> NDArray[np.float32]:
        """The array the codes stand for.

        Returns:
            float32 array of the original shape, one multiplication a value.
        """
        codes = to_canonical(self.codes, self.axis).astype(np.float32)
        scale = self.scale
        if scale.shape[1] > 1:
            size = self.group_size or codes.shape[1]
            scale = np.repeat(scale, size, axis=1)[:, : codes.shape[1]]
        return from_canonical(codes * scale, self.shape, self.axis)
