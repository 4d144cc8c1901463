"""Every kind of kernel as matrices, and why some are none."""

from __future__ import annotations

import math

import keras

from keras_squeeze.calibration.layer_kinds import (
    RECURRENT_CELLS,
    Convolution,
    DepthwiseConvolution,
    SeparableConvolution,
    TransposedConvolution,
    is_convolutional_cell,
)
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.einsum_axes import EinsumAxes, einsum_axes
from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.surgery.layer_tree import Kernel

_layers = keras.layers


def kernel_matrix(kernel: Kernel) -> KernelMatrix:
    """How a layer's kernel is a stack of matrices its inputs multiply.

    The inputs of a convolution are its window's values, tap by tap; those of
    an `Embedding` are its tokens, one-hot.

    Args:
        kernel: `Kernel`, as `find_kernels` lists it.

    Returns:
        `KernelMatrix`.

    Raises:
        SqueezeError: If it is no product of matrices; see
            `reason_without_matrix`.

    Example:
    >>> from keras_squeeze.surgery.layer_tree import find_kernels
    >>> layer = keras.layers.Conv2D(8, 3, groups=2)
    >>> layer.build((None, 9, 9, 4))
    >>> kernel_matrix(find_kernels(layer)[0]).matrix_shape
    (2, 18, 4)
    """
    reason = reason_without_matrix(kernel)
    if reason is not None:
        raise SqueezeError(
            "Expected a kernel that multiplies vectors of inputs. Received: "
            f"{kernel.path}, {reason}"
        )
    layer, shape = kernel.layer, _shape(kernel)
    if isinstance(layer, _layers.EinsumDense):
        return _of_equation(einsum_axes(layer.equation), shape)
    if isinstance(layer, TransposedConvolution):
        rank = len(shape)
        order = (*range(rank - 2), rank - 1, rank - 2)
        inputs = math.prod(shape[:-2]) * shape[-1]
        return KernelMatrix(shape, shape, order, 1, inputs, shape[-2])
    if is_depthwise(kernel):
        return _of_depthwise(shape)
    groups = getattr(layer, "groups", 1)
    return KernelMatrix.flat(shape) if groups == 1 else _grouped(shape, groups)


def reason_without_matrix(kernel: Kernel) -> str | None:
    """Why a kernel cannot be seen as matrices; `None` if it can.

    Args:
        kernel: `Kernel`.

    Returns:
        String or `None`.
    """
    layer = kernel.layer
    if isinstance(layer, _layers.EinsumDense):
        return _reason_of_equation(einsum_axes(layer.equation))
    known = (
        _layers.Dense,
        _layers.Embedding,
        Convolution,
        TransposedConvolution,
        DepthwiseConvolution,
        SeparableConvolution,
        *RECURRENT_CELLS,
    )
    if isinstance(layer, known) or is_convolutional_cell(layer):
        return None
    return f"what {type(layer).__name__} does with it is not known"


def is_depthwise(kernel: Kernel) -> bool:
    """Whether a kernel convolves every channel by itself.

    Args:
        kernel: `Kernel`.

    Returns:
        Boolean.
    """
    return (
        isinstance(kernel.layer, DepthwiseConvolution)
        or kernel.attribute == "depthwise_kernel"
    )


def _shape(kernel: Kernel) -> tuple[int, ...]:
    return tuple(int(size) for size in kernel.variable.shape)


def _of_depthwise(shape: tuple[int, ...]) -> KernelMatrix:
    rank = len(shape)
    order = (rank - 2, *range(rank - 2), rank - 1)
    taps = math.prod(shape[:-2])
    return KernelMatrix(shape, shape, order, shape[-2], taps, shape[-1])


def _grouped(shape: tuple[int, ...], groups: int) -> KernelMatrix:
    """Output channels come group by group, each with its own inputs."""
    outputs, rank = shape[-1] // groups, len(shape)
    split = (*shape[:-1], groups, outputs)
    order = (rank - 1, *range(rank - 1), rank)
    inputs = math.prod(shape[:-1])
    return KernelMatrix(shape, split, order, groups, inputs, outputs)


def _of_equation(axes: EinsumAxes, shape: tuple[int, ...]) -> KernelMatrix:
    batch, reduced, kept = equation_parts(axes)
    order = tuple(axes.kernel.index(a) for a in batch + reduced + kept)
    sizes = dict(zip(axes.kernel, shape, strict=True))
    groups, inputs, outputs = (
        math.prod(sizes[a] for a in part) for part in (batch, reduced, kept)
    )
    return KernelMatrix(shape, shape, order, groups, inputs, outputs)


def equation_parts(axes: EinsumAxes) -> tuple[str, str, str]:
    """The labels of a kernel that count groups, inputs and outputs.

    Args:
        axes: `EinsumAxes`.

    Returns:
        Three strings, each in the kernel's order.
    """
    batch = "".join(a for a in axes.kept if a in axes.inputs)
    kept = "".join(a for a in axes.kept if a not in axes.inputs)
    return batch, axes.reduced, kept


def _reason_of_equation(axes: EinsumAxes) -> str | None:
    labels = (axes.inputs, axes.kernel, axes.output)
    if any(len(set(part)) < len(part) for part in labels):
        return "its equation repeats an axis within one operand"
    if not set(axes.reduced) <= set(axes.inputs):
        return "its equation sums an axis of the kernel alone"
    return None
