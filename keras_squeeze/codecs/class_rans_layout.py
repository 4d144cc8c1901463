"""The order in which `class_rans` codes the elements of an array.

An array is looked at as a matrix of positions and channels (a view), a lane
takes every `lanes`-th channel, and a *row* is what all lanes take in one step:
up to `lanes` neighbouring channels at one position. All positions of the first
channels come first, then those of the next ones. The flat view has as many
channels as there are lanes: element `i` is in lane `i % lanes`, row
`i // lanes`. A block is a number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_squeeze.codecs import kernel_geometry

#: The views; the index is what streams hold. Never reorder.
VIEWS = ("flat", *kernel_geometry.KINDS)
MAX_LANES = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of a tensor seen by the coder.

    Args:
        view: String, one of `VIEWS`.
        count: Integer, at least 1. The number of elements.
        channels: Integer. The number of channels; `lanes` in the flat view.
        taps: Integer.
        width: Integer. How many of the taps lie side by side.
        inputs: Integer.
        lanes: Integer, a power of two up to 32.
    """

    view: str
    count: int
    channels: int
    taps: int
    width: int
    inputs: int
    lanes: int

    @property
    def positions(self) -> int:
        """How many elements a channel has."""
        return self.taps * self.inputs

    @property
    def rows(self) -> int:
        """How many steps all lanes together take."""
        return self.positions * -(-self.channels // self.lanes)

    def widths(self, step: int = 1) -> np.ndarray:
        """How many lanes take part in each row, or in some; int64.

        Args:
            step: Integer. Every so many rows are asked for, the first being
                one of them. Defaults to `1`.
        """
        rows = np.arange(0, self.rows, step)
        if self.view == "flat":
            return np.minimum(self.count - rows * self.lanes, self.lanes)
        first = rows // self.positions * self.lanes
        return np.minimum(self.channels - first, self.lanes)


def layout_of(shape: Sequence[int], view: str, lanes: int) -> Layout:
    """The layout of an array.

    Args:
        shape: Sequence of integers without a zero.
        view: String, one of `VIEWS`.
        lanes: Integer, a power of two up to 32.

    Returns:
        `Layout`.

    Raises:
        ValueError: If the view does not fit the shape.
    """
    if view == "flat":
        count = int(np.prod(shape, dtype=np.int64))
        inputs = -(-count // lanes)
        return Layout(view, count, lanes, 1, 1, inputs, lanes)
    geometry = kernel_geometry.geometry_of(shape, view)
    return Layout(
        view,
        geometry.size,
        geometry.channels,
        geometry.taps,
        geometry.width,
        geometry.inputs,
        lanes,
    )


def to_matrix(array: np.ndarray, layout: Layout) -> np.ndarray:
    """An array as `(positions, channels)`; flat ones are filled up with 0."""
    if layout.view == "flat":
        size = layout.positions * layout.channels
        flat = np.ascontiguousarray(array).reshape(-1)
        if size != layout.count:
            flat = np.concatenate(
                [flat, np.zeros(size - flat.size, flat.dtype)]
            )
        return flat.reshape(layout.positions, layout.channels)
    geometry = kernel_geometry.geometry_of(array.shape, layout.view)
    canonical = kernel_geometry.to_canonical(array, geometry)
    return canonical.reshape(layout.channels, layout.positions).T


def from_matrix(
    matrix: np.ndarray, layout: Layout, shape: Sequence[int]
) -> np.ndarray:
    """Undoes `to_matrix`; a C-contiguous array of that shape."""
    if layout.view == "flat":
        flat = np.ascontiguousarray(matrix).reshape(-1)[: layout.count]
        return flat.reshape(tuple(shape))
    geometry = kernel_geometry.geometry_of(shape, layout.view)
    sizes = geometry.channels, geometry.taps, geometry.inputs
    canonical = matrix.T.reshape(sizes)
    return kernel_geometry.from_canonical(canonical, geometry, shape)


def is_channels_last(layout: Layout) -> bool:
    """Whether `(positions, channels)` is the array's own memory order."""
    if layout.view == "matrix_transposed":
        return layout.positions == 1 or layout.channels == 1
    if layout.view == "convolution_transposed":
        return layout.inputs == 1
    return True


def is_matrix(layout: Layout) -> bool:
    """Whether the matrix holds the array's elements and nothing else."""
    whole = layout.positions * layout.channels == layout.count
    return whole and is_channels_last(layout)


def to_rows(matrix: np.ndarray, layout: Layout, fill: int = 0) -> np.ndarray:
    """A matrix as `(rows, lanes)`, lanes that take no part filled.

    Args:
        matrix: Array of shape `(positions, channels)`, or one that broadcasts
            to it.
        layout: `Layout`.
        fill: Integer. Defaults to `0`.

    Returns:
        Array of the same dtype.
    """
    positions, lanes = layout.positions, layout.lanes
    groups = -(-layout.channels // lanes)
    matrix = np.broadcast_to(matrix, (positions, layout.channels))
    if groups * lanes != layout.channels:
        padded = np.full((positions, groups * lanes), fill, matrix.dtype)
        padded[:, : layout.channels] = matrix
        matrix = padded
    grouped = matrix.reshape(positions, groups, lanes)
    return grouped.transpose(1, 0, 2).reshape(layout.rows, lanes)


def from_rows(rows: np.ndarray, layout: Layout) -> np.ndarray:
    """Undoes `to_rows`."""
    groups = -(-layout.channels // layout.lanes)
    grouped = rows.reshape(groups, layout.positions, layout.lanes)
    matrix = grouped.transpose(1, 0, 2).reshape(layout.positions, -1)
    return matrix[:, : layout.channels]


def taking_part(layout: Layout) -> np.ndarray:
    """Which lanes take part in which row: bool, `(rows, lanes)`."""
    out: np.ndarray = np.arange(layout.lanes) < layout.widths()[:, None]
    return out
