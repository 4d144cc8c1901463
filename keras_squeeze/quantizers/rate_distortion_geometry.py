"""Which axes of a kernel the coder takes for channels and inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.kernel_geometry import (
    KernelGeometry,
    default_kind,
    geometry_of,
)
from keras_squeeze.errors import SqueezeError

#: Profiles of coders: static tables, or a model that adapts to neighbours.
TARGETS = ("fast", "small")

# Share of the energy the neighbour along the channels must explain more. The
# fast coder decodes other scans than along the last axis at a slower pace.
_MARGINS = {"fast": 0.25, "small": 0.1}


def coding_geometry(
    values: NDArray[np.float32],
    kind: str | None,
    target: str,
    name: str = "",
) -> KernelGeometry:
    """The geometry in which a kernel is to be coded.

    Args:
        values: float32 array, the kernel.
        kind: String, one of `codecs.kernel_geometry.KINDS`; `None` for the
            likeliest of the shape and, for matrices, of the values: the scan
            that meets the more similar weights in a row.
        target: String, one of `TARGETS`.
        name: String. Where the kernel comes from, for the message of an
            error. Defaults to `""`.

    Returns:
        `KernelGeometry`.

    Raises:
        SqueezeError: If the kind does not fit the shape.

    Example:
    >>> smooth = np.sin(np.arange(64.0)) * np.ones((16, 1))
    >>> coding_geometry(smooth.T, None, "small").kind
    'matrix_transposed'
    """
    if kind is None:
        kind = default_kind(values.shape)
        if kind == "matrix" and values.ndim == 2:
            kind = _smoother_kind(values, _MARGINS[target])
    try:
        return geometry_of(values.shape, kind)
    except ValueError as error:
        raise SqueezeError(
            f"Expected a geometry that fits {name or 'the array'} of shape "
            f"{values.shape}. Received: kind={kind!r}"
        ) from error


def _smoother_kind(matrix: NDArray[np.float32], margin: float) -> str:
    """The kind whose scan meets the more similar weights in a row."""
    energy = float(np.square(matrix, dtype=np.float64).sum())
    along_inputs = _explained(matrix[1:], matrix[:-1], energy)
    along_channels = _explained(matrix[:, 1:], matrix[:, :-1], energy)
    if along_channels > along_inputs + margin:
        return "matrix_transposed"
    return "matrix"


def _explained(
    after: NDArray[np.float32], before: NDArray[np.float32], energy: float
) -> float:
    if energy == 0:
        return 0.0
    product = np.einsum("ij,ij->", after, before, dtype=np.float64)
    return float(product / energy) ** 2
