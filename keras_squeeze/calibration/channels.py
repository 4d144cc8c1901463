"""Where the channels of a layer stand in its variables."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.layers.tracked_variables import unlocked
from keras_squeeze.quantizers.layout import from_canonical, to_canonical
from keras_squeeze.surgery.layer_tree import to_numpy

_L = keras.layers
_TRANSPOSED = (_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose)
_DEPTHWISE = (_L.DepthwiseConv1D, _L.DepthwiseConv2D)
_SEPARABLE = (_L.SeparableConv1D, _L.SeparableConv2D)
_PLAIN = (_L.Dense, _L.Conv1D, _L.Conv2D, _L.Conv3D)
#: Layers of which every output is a channel with a bias of its own.
KERNEL_CLASSES = (*_PLAIN, *_TRANSPOSED, *_DEPTHWISE, *_SEPARABLE)


def is_plain(layer: Any) -> bool:
    """Whether a layer is exactly of a class whose channels are known here.

    Args:
        layer: A Keras layer.

    Returns:
        Boolean. False for layers that Keras quantized, and for LoRA.
    """
    return (
        type(layer) in KERNEL_CLASSES
        and layer.built
        and getattr(layer, "quantization_mode", None) is None
        and not getattr(layer, "lora_enabled", False)
    )


def last_kernel(layer: Any) -> Any:
    """The variable of the kernel that makes a layer's outputs.

    Args:
        layer: A layer for which `is_plain` holds.

    Returns:
        `keras.Variable`.
    """
    if isinstance(layer, _SEPARABLE):
        return layer.pointwise_kernel
    return _single_kernel(layer)


def first_kernel(layer: Any) -> Any:
    """The variable of the kernel that a layer's inputs meet.

    Args:
        layer: A layer for which `is_plain` holds.

    Returns:
        `keras.Variable`.
    """
    if isinstance(layer, _SEPARABLE):
        return layer.depthwise_kernel
    return _single_kernel(layer)


def _single_kernel(layer: Any) -> Any:
    # The property `kernel` of a Dense layer is a tensor in some modes.
    return layer.__dict__.get("_kernel", layer.__dict__.get("kernel"))


def output_axes(layer: Any) -> tuple[int, ...]:
    """The axes of `last_kernel` that index a layer's output channels.

    Args:
        layer: A layer for which `is_plain` holds.

    Returns:
        Ascending tuple of axes.
    """
    rank = len(last_kernel(layer).shape)
    if isinstance(layer, _TRANSPOSED):
        return (rank - 2,)
    if isinstance(layer, _DEPTHWISE):
        return (rank - 2, rank - 1)
    return (rank - 1,)


def input_axis(layer: Any) -> int:
    """The axis of `first_kernel` that indexes a layer's input channels.

    Args:
        layer: A layer for which `is_plain` holds, no convolution in groups.

    Returns:
        Integer.
    """
    rank = len(first_kernel(layer).shape)
    return rank - 1 if isinstance(layer, _TRANSPOSED) else rank - 2


def is_grouped(layer: Any) -> bool:
    """Whether a layer is a convolution in groups.

    Args:
        layer: A layer for which `is_plain` holds.

    Returns:
        Boolean. A depthwise convolution is none.
    """
    return type(layer) in _PLAIN[1:] and layer.groups != 1


def channel_axis_of_outputs(layer: Any) -> int:
    """The axis of a layer's output tensor that indexes its channels.

    Args:
        layer: A layer for which `is_plain` holds.

    Returns:
        Integer: `-1`, or `1` for data of channels first.
    """
    first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if first else -1


def scale_outputs(layer: Any, factors: NDArray[Any]) -> None:
    """Multiplies what a layer computes, channel by channel, in place.

    Args:
        layer: A layer for which `is_plain` holds.
        factors: float64 array, one an output channel.
    """
    kernel, axes = last_kernel(layer), output_axes(layer)
    rows = to_canonical(to_numpy(kernel).astype(np.float64), axes)
    scaled = from_canonical(rows * factors[:, None], tuple(kernel.shape), axes)
    kernel.assign(scaled)
    if layer.use_bias:
        layer.bias.assign(to_numpy(layer.bias).astype(np.float64) * factors)


def scale_inputs(layer: Any, factors: NDArray[Any]) -> None:
    """Makes a layer read its inputs as if they were multiplied, in place.

    Args:
        layer: A layer for which `is_plain` holds, no convolution in groups.
        factors: float64 array, one an input channel.
    """
    kernel, axis = first_kernel(layer), input_axis(layer)
    values = np.moveaxis(to_numpy(kernel).astype(np.float64), axis, -1)
    kernel.assign(np.moveaxis(values * factors, -1, axis))


def add_bias(layer: Any) -> None:
    """Gives a layer a bias of zeros, in place; does nothing if it has one.

    Args:
        layer: A layer for which `is_plain` holds.
    """
    if layer.use_bias:
        return
    axes, shape = output_axes(layer), tuple(last_kernel(layer).shape)
    layer.use_bias = True
    with unlocked(layer):
        layer.bias = layer.add_weight(
            name="bias",
            shape=(int(np.prod([shape[axis] for axis in axes])),),
            initializer="zeros",
            regularizer=layer.bias_regularizer,
            constraint=layer.bias_constraint,
        )
