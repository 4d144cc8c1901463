"""How a codec looks at a kernel: channels, taps and inputs.

Weights of one output channel share a scale, weights of one input too, and the
taps of a convolution resemble their neighbours. A geometry names which axes
play these parts; the canonical form of every kernel is then the same array of
shape `(channels, taps, inputs)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: The ways to look at an array; the index is what streams hold. Never reorder.
KINDS = (
    "matrix",
    "matrix_transposed",
    "convolution",
    "convolution_transposed",
    "matrix_first_axis",
)


@dataclass(frozen=True, slots=True)
class KernelGeometry:
    """The sizes of the canonical form.

    Args:
        kind: String, one of `KINDS`. `"matrix"`: the last axis is the channel,
            all others are inputs. `"matrix_transposed"`: the first axis is the
            channel. `"convolution"`: the last axis is the channel, the one
            before the input, the others are spatial.
            `"convolution_transposed"`: channel and input exchanged.
            `"matrix_first_axis"`: the first axis is the input, all others are
            channels, as in the projections of attention.
        channels: Integer.
        taps: Integer. Product of the spatial axes, 1 without any.
        width: Integer. The last spatial axis, 1 without any.
        inputs: Integer.
    """

    kind: str
    channels: int
    taps: int
    width: int
    inputs: int

    @property
    def size(self) -> int:
        """The number of weights."""
        return self.channels * self.taps * self.inputs


def geometry_of(shape: Sequence[int], kind: str) -> KernelGeometry:
    """The geometry of an array of that shape.

    Args:
        shape: Sequence of integers.
        kind: String, one of `KINDS`; the two convolutions need three axes.

    Returns:
        `KernelGeometry`.

    Raises:
        ValueError: If the kind does not fit the shape.

    Example:
    >>> geometry_of((3, 5, 16, 32), "convolution")
    KernelGeometry(kind='convolution', channels=32, taps=15, width=5, inputs=16)
    """
    shape = tuple(int(size) for size in shape) or (1,)
    if kind not in KINDS or (kind.startswith("conv") and len(shape) < 3):
        raise ValueError(f"no {kind!r} geometry for the shape {shape}")
    if kind == "matrix":
        return KernelGeometry(kind, shape[-1], 1, 1, math.prod(shape[:-1]))
    if kind == "matrix_transposed":
        return KernelGeometry(kind, shape[0], 1, 1, math.prod(shape[1:]))
    if kind == "matrix_first_axis":
        return KernelGeometry(kind, math.prod(shape[1:]), 1, 1, shape[0])
    taps = math.prod(shape[:-2])
    inputs, channels = shape[-2:]
    if kind == "convolution_transposed":
        inputs, channels = channels, inputs
    return KernelGeometry(kind, channels, taps, shape[-3], inputs)


def default_kind(shape: Sequence[int]) -> str:
    """The likeliest kind for a shape, as Keras lays kernels out.

    The last axis is the channel unless it is 1 (a depthwise kernel, a single
    unit), where the one before it is.

    Example:
    >>> default_kind((3, 3, 64, 1)), default_kind((784, 300))
    ('convolution_transposed', 'matrix')
    """
    shape = tuple(shape)
    if len(shape) < 3:
        single = len(shape) == 2 and shape[-1] == 1
        return "matrix_transposed" if single else "matrix"
    return "convolution_transposed" if shape[-1] == 1 else "convolution"


def to_canonical(array: np.ndarray, geometry: KernelGeometry) -> np.ndarray:
    """Moves an array to `(channels, taps, inputs)`; a view where possible.

    Args:
        array: Array of the shape the geometry was made for.
        geometry: `KernelGeometry`.

    Returns:
        Array of shape `(channels, taps, inputs)`.
    """
    if geometry.kind == "matrix_transposed":
        return array.reshape(geometry.channels, 1, geometry.inputs)
    if geometry.kind == "convolution_transposed":
        shape = geometry.taps, geometry.channels, geometry.inputs
        return array.reshape(shape).transpose(1, 0, 2)
    shape = geometry.taps, geometry.inputs, geometry.channels
    return array.reshape(shape).transpose(2, 0, 1)


def from_canonical(
    canonical: np.ndarray, geometry: KernelGeometry, shape: Sequence[int]
) -> np.ndarray:
    """Undoes `to_canonical`.

    Args:
        canonical: Array of shape `(channels, taps, inputs)`.
        geometry: `KernelGeometry`.
        shape: Sequence of integers, the shape to go back to.

    Returns:
        C-contiguous array of that shape.
    """
    if geometry.kind == "convolution_transposed":
        moved = canonical.transpose(1, 0, 2)
    elif geometry.kind == "matrix_transposed":
        moved = canonical
    else:
        moved = canonical.transpose(1, 2, 0)
    return np.ascontiguousarray(moved).reshape(tuple(shape))
