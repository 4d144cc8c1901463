"""The values under the window of a convolution, for each output position."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Values gathered at once: 64 megabytes.
_MOST_VALUES = 1 << 24


@dataclasses.dataclass(frozen=True)
class Windows:
    """The geometry of a convolution.

    Args:
        size: Tuple of integers, one a spatial axis.
        strides: Tuple of integers.
        dilation: Tuple of integers.
        padding: String. `"valid"`, `"same"` or `"causal"`.
        transposed: Boolean. Whether the convolution is transposed: its
            strides are those of the output. Defaults to `False`.
        output_padding: Optional tuple of integers, of a transposed
            convolution. Defaults to `None`.

    Example:
    >>> windows = Windows((2,), (1,), (1,), "valid")
    >>> sequence = np.arange(3.0).reshape(1, 3, 1)
    >>> [part[0, :, :, 0].tolist() for part in windows.gather(sequence)]
    [[[0.0, 1.0], [1.0, 2.0]]]
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    transposed: bool = False
    output_padding: tuple[int, ...] | None = None

    def gather(self, array: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """The values under the window, in parts of bounded size.

        Args:
            array: Array of shape `(batch, spatial..., channels)`.

        Yields:
            Arrays of shape `(samples, positions, taps, channels)`.
        """
        rank, channels = len(self.size), array.shape[-1]
        places = [
            self._places(axis, array.shape[axis + 1]) for axis in range(rank)
        ]
        # The last value of each axis stands for all outside of it.
        widths = [(0, 0), *[(0, int((p < 0).any())) for p in places], (0, 0)]
        padded = np.pad(array, widths)
        row = math.prod(p.size for p in places[1:]) * self.size[0] * channels
        rows = max(1, _MOST_VALUES // max(1, row))
        samples = max(1, rows // max(1, len(places[0])))
        for first in range(0, len(array), samples):
            part = padded[first : first + samples]
            for top in range(0, len(places[0]), rows):
                within = [places[0][top : top + rows], *places[1:]]
                yield _gathered(part, within)

    def _places(self, axis: int, length: int) -> NDArray[np.intp]:
        """Where the taps of each output position lie; -1 for outside.

        Args:
            axis: Integer.
            length: Integer, of the input along this axis.

        Returns:
            Integer array of shape `(positions, taps)`.
        """
        stride, dilation = self.strides[axis], self.dilation[axis]
        reach = (self.size[axis] - 1) * dilation + 1
        taps = np.arange(self.size[axis]) * dilation
        if self.transposed:
            count = self._transposed_length(axis, length, reach)
            before = self._before(count, reach, stride)
            found = np.arange(count)[:, None] + before - taps
            inside = (found % stride == 0) & (found // stride < length)
            return np.where(inside & (found >= 0), found // stride, -1)
        missing = reach - 1 if self.padding == "causal" else 0
        count = max(0, (length + missing - reach) // stride + 1)
        before = missing
        if self.padding == "same":
            count = -(-length // stride)
            before = self._before(length, reach, stride)
        found = np.arange(count)[:, None] * stride + taps - before
        return np.where((found >= 0) & (found < length), found, -1)

    def _before(self, length: int, reach: int, stride: int) -> int:
        """The padding at the start of an axis that is strided over."""
        if self.padding != "same":
            return 0
        last = (-(-length // stride) - 1) * stride
        return max(last + reach - length, 0) // 2

    def _transposed_length(self, axis: int, length: int, reach: int) -> int:
        stride = self.strides[axis]
        last = (length - 1) * stride
        added = (
            None if self.output_padding is None else self.output_padding[axis]
        )
        if self.padding == "same":
            return (
                length * stride if added is None else last + reach % 2 + added
            )
        added = max(reach, stride) - reach if added is None else added
        return last + reach + added


def _gathered(
    array: NDArray[Any], places: list[NDArray[np.intp]]
) -> NDArray[Any]:
    rank = len(places)
    index: list[Any] = [slice(None)]
    for axis, found in enumerate(places):
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = found.shape
        index.append(found.reshape(shape))
    # (samples, positions of all axes, taps of all axes, channels)
    taps = math.prod(p.shape[1] for p in places)
    values: NDArray[Any] = array[tuple(index)]
    return values.reshape(len(array), -1, taps, array.shape[-1])
