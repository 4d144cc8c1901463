"""The vectors that the matrices of a kernel are multiplied with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.kernel_matrix import (
    equation_parts,
    is_depthwise,
)
from keras_squeeze.calibration.layer_kinds import (
    RECURRENT_CELLS,
    TransposedConvolution,
    is_convolutional_cell,
)
from keras_squeeze.calibration.windows import Windows
from keras_squeeze.layers.einsum_axes import EinsumAxes, einsum_axes
from keras_squeeze.surgery.layer_tree import Kernel

_layers = keras.layers
_ops = keras.ops


def kernel_inputs(
    kernel: Kernel, *args: Any, **kwargs: Any
) -> Iterator[NDArray[np.float32]]:
    """What a kernel is multiplied with in a call of its layer.

    With a window of zeros, the figures of a padded convolution count its
    padding. The candidate state of a GRU whose `reset_after` is false
    multiplies the reset state; its vectors are those of the state.

    Args:
        kernel: `Kernel` of any layer but an `Embedding`.
        *args: The arguments of the layer's `call`.
        **kwargs: Its keyword arguments.

    Yields:
        float32 arrays of shape `(groups, vectors, inputs)`, of bounded size.
    """
    layer = kernel.layer
    inputs = args[0] if args else next(iter(kwargs.values()))
    if isinstance(layer, RECURRENT_CELLS) or is_convolutional_cell(layer):
        if kernel.attribute == "recurrent_kernel":
            states = args[1] if len(args) > 1 else kwargs["states"]
            inputs = states[0] if isinstance(states, list | tuple) else states
        if not is_convolutional_cell(layer):
            yield _rows(_float32(inputs))
            return
    if isinstance(layer, _layers.EinsumDense):
        yield _of_equation(_float32(inputs), einsum_axes(layer.equation))
    elif isinstance(layer, _layers.Dense):
        yield _rows(_float32(inputs))
    else:
        yield from _under_windows(kernel, inputs)


def _float32(value: Any) -> NDArray[np.float32]:
    # NumPy has no bfloat16.
    value = _ops.convert_to_numpy(_ops.cast(value, "float32"))
    return np.asarray(value, np.float32)


def _rows(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.reshape(1, -1, array.shape[-1])


def _of_equation(
    array: NDArray[np.float32], axes: EinsumAxes
) -> NDArray[np.float32]:
    batch, reduced, _ = equation_parts(axes)
    hidden = array.ndim - len(axes.inputs)
    # Labels that no operand has stand for what the ellipsis hides.
    dots = "".join(chr(0x3B1 + i) for i in range(hidden))
    labels = dots + axes.inputs if axes.left else axes.inputs + dots
    alone = [
        place
        for place, label in enumerate(labels)
        if label not in dots + axes.kernel + axes.output
    ]
    array = array.sum(axis=tuple(alone)) if alone else array
    labels = "".join(a for i, a in enumerate(labels) if i not in alone)
    free = "".join(a for a in labels if a not in batch + reduced)
    moved = array.transpose([labels.index(a) for a in batch + free + reduced])
    groups, inputs = (
        math.prod(array.shape[labels.index(a)] for a in part)
        for part in (batch, reduced)
    )
    return moved.reshape(groups, -1, inputs)


def _under_windows(
    kernel: Kernel, inputs: Any
) -> Iterator[NDArray[np.float32]]:
    layer = kernel.layer
    if kernel.attribute == "pointwise_kernel":
        inputs = _depthwise_outputs(layer, inputs)
    array = _float32(inputs)
    if layer.data_format == "channels_first":
        array = np.moveaxis(array, 1, -1)
    groups = getattr(layer, "groups", 1)
    if is_depthwise(kernel):
        groups = array.shape[-1]
    for values in _windows(kernel).gather(array):
        taps, channels = values.shape[2:]
        split = values.reshape(-1, taps, groups, channels // groups)
        moved = split.transpose(2, 0, 1, 3)
        yield moved.reshape(groups, len(split), taps * channels // groups)


def _depthwise_outputs(layer: Any, inputs: Any) -> Any:
    return _ops.depthwise_conv(
        inputs,
        _ops.cast(layer.depthwise_kernel, inputs.dtype),
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )


def _windows(kernel: Kernel) -> Windows:
    layer = kernel.layer
    ones = (1,) * len(layer.kernel_size)
    if kernel.attribute == "pointwise_kernel":
        return Windows(ones, ones, ones, "valid")
    if kernel.attribute == "recurrent_kernel":
        return Windows(tuple(layer.kernel_size), ones, ones, "same")
    transposed = isinstance(layer, TransposedConvolution)
    added = layer.output_padding if transposed else None
    if isinstance(added, int):
        added = (added,) * len(ones)
    return Windows(
        tuple(layer.kernel_size),
        tuple(layer.strides),
        tuple(layer.dilation_rate),
        layer.padding,
        transposed,
        None if added is None else tuple(added),
    )
