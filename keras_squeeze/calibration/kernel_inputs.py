"""The vectors that the matrices of a kernel are multiplied with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.calibration.call_masks import Mask, unmasked
from keras_squeeze.calibration.kernel_matrix import (
    equation_parts,
    is_depthwise,
)
from keras_squeeze.calibration.layer_calls import Call
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


def kernel_inputs(kernel: Kernel, call: Call) -> Iterator[NDArray[np.float32]]:
    """What a kernel is multiplied with in a call of its layer.

    With a window of zeros, the figures of a padded convolution count its
    padding. The candidate state of a GRU whose `reset_after` is false
    multiplies the reset state; its vectors are those of the state.

    Masked positions are left out, but for those along the axes of a
    convolution: its windows see them as they are.

    Args:
        kernel: `Kernel` of any layer but an `Embedding`.
        call: `Call` of the kernel's layer.

    Yields:
        float32 arrays of shape `(groups, vectors, inputs)`, of bounded size.
    """
    layer, inputs, mask = kernel.layer, call.inputs, call.mask
    if isinstance(layer, RECURRENT_CELLS) or is_convolutional_cell(layer):
        if kernel.attribute == "recurrent_kernel":
            args, keywords = call.args, call.keywords
            states = args[1] if len(args) > 1 else keywords["states"]
            inputs = states[0] if isinstance(states, list | tuple) else states
        if not is_convolutional_cell(layer):
            yield _rows(unmasked(_float32(inputs), mask))
            return
    if isinstance(layer, _layers.EinsumDense):
        axes = einsum_axes(layer.equation)
        yield _of_equation(_float32(inputs), axes, mask)
    elif isinstance(layer, _layers.Dense):
        yield _rows(unmasked(_float32(inputs), mask))
    else:
        yield from _under_windows(kernel, inputs, mask)


def _float32(value: Any) -> NDArray[np.float32]:
    # NumPy has no bfloat16.
    value = _ops.convert_to_numpy(_ops.cast(value, "float32"))
    return np.asarray(value, np.float32)


def _rows(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.reshape(1, -1, array.shape[-1])


def _of_equation(
    array: NDArray[np.float32], axes: EinsumAxes, mask: Mask
) -> NDArray[np.float32]:
    batch, reduced, _ = equation_parts(axes)
    hidden = array.ndim - len(axes.inputs)
    # Labels that no operand has stand for what the ellipsis hides.
    dots = "".join(chr(0x3B1 + i) for i in range(hidden))
    labels = dots + axes.inputs if axes.left else axes.inputs + dots
    array, labels = _unmasked_labels(array, labels, axes, mask)
    dots = "".join(label for label in labels if label not in axes.inputs)
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


def _unmasked_labels(
    array: NDArray[np.float32], labels: str, axes: EinsumAxes, mask: Mask
) -> tuple[NDArray[np.float32], str]:
    """Takes masked positions out, where the kernel has none of their axes."""
    leading = labels[: 0 if mask is None else mask.ndim]
    summed = set(axes.inputs) - set(axes.output)
    if not set(leading).isdisjoint({*axes.kernel, *summed}):
        return array, labels
    kept = unmasked(array, mask)
    gone = array.ndim - kept.ndim
    # One axis stands for all of the mask; its label is the first of theirs.
    return kept, labels[:1] + labels[1 + gone :]


def _under_windows(
    kernel: Kernel, inputs: Any, mask: Mask
) -> Iterator[NDArray[np.float32]]:
    layer = kernel.layer
    if kernel.attribute == "pointwise_kernel":
        inputs = _depthwise_outputs(layer, inputs)
    array = _float32(inputs)
    if mask is not None and mask.ndim == 1:
        array = unmasked(array, mask)
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
