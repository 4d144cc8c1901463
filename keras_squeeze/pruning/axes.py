"""Which axes of a kernel index its outputs, and which its inputs."""

from __future__ import annotations

from collections.abc import Sequence

from keras_squeeze.errors import SqueezeError


def output_axes(
    shape: Sequence[int], channel_axis: Sequence[int]
) -> tuple[int, ...]:
    """The output axes, counted from the front.

    Args:
        shape: Sequence of integers. The kernel's shape.
        channel_axis: Sequence of integers, which may count from the back.

    Returns:
        Ascending tuple of integers.

    Raises:
        SqueezeError: If the kernel does not have one of the axes.

    Example:
    >>> output_axes((3, 3, 8, 16), (-1,))
    (3,)
    """
    for axis in channel_axis:
        if not -len(shape) <= axis < len(shape):
            raise SqueezeError(
                f"Expected `channel_axis` to name axes of a kernel of shape "
                f"{tuple(shape)}. Received: {tuple(channel_axis)}"
            )
    return tuple(sorted({axis % len(shape) for axis in channel_axis}))


def inner_axes(
    shape: Sequence[int], channel_axis: Sequence[int]
) -> tuple[int, ...]:
    """The axes over which one output channel extends.

    Args:
        shape: Sequence of integers. The kernel's shape.
        channel_axis: Sequence of integers, which may count from the back.

    Returns:
        Ascending tuple of integers.

    Raises:
        SqueezeError: If the kernel does not have one of the axes.

    Example:
    >>> inner_axes((3, 3, 8, 16), (-1,))
    (0, 1, 2)
    """
    outer = output_axes(shape, channel_axis)
    return tuple(axis for axis in range(len(shape)) if axis not in outer)
