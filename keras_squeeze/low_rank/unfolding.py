"""Which convolution kernels can be unfolded how."""

from __future__ import annotations

import math


def spatial_positions(shape: tuple[int, ...]) -> int:
    """The spatial positions of a convolution's kernel.

    Args:
        shape: Tuple of integers. The kernel's shape.

    Returns:
        Integer; one for a matrix.

    Example:
    >>> spatial_positions((3, 5, 16, 32))
    15
    """
    return math.prod(shape[:-2])


def reason_not_convolution(shape: tuple[int, ...]) -> str | None:
    """Says why a kernel is not one of a convolution.

    Args:
        shape: Tuple of integers. The kernel's shape.

    Returns:
        String, part of a sentence; `None` if it is one.
    """
    if 3 <= len(shape) <= 5:
        return None
    return f"it is for convolutions, and this kernel has {len(shape)} axes"


def reason_not_spatial(
    shape: tuple[int, ...], dimensions: tuple[int, ...]
) -> str | None:
    """Says why there is no spatial extent to take apart.

    Args:
        shape: Tuple of integers. The kernel's shape.
        dimensions: Tuple of integers. The numbers of spatial axes that will
            do.

    Returns:
        String, part of a sentence; `None` if there is one.

    Example:
    >>> reason_not_spatial((1, 1, 16, 32), dimensions=(2, 3))
    'the kernel is of one position, for which `channel_svd` does the same'
    """
    found = len(shape) - 2
    if found not in dimensions:
        kinds = " or ".join(f"{n}D" for n in dimensions)
        return (
            f"it is for {kinds} convolutions, and this kernel has "
            f"{found} spatial axes"
        )
    if spatial_positions(shape) == 1:
        return (
            "the kernel is of one position, for which `channel_svd` does "
            "the same"
        )
    return None
