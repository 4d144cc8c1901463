"""The scale of the normalization that follows a layer."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.surgery.kernel_quantization import channel_axis
from keras_squeeze.surgery.layer_tree import Kernel, to_numpy, walk_layers

NAME = "scale"


def following_scales(model: Any, kernels: list[Kernel]) -> dict[str, Any]:
    """Finds the scales that multiply the outputs of kernels.

    The graph of a Functional or Sequential model is followed one edge: the
    layer's only consumer must be a `BatchNormalization` with a scale over the
    layer's output channels.

    Args:
        model: A built `keras.Model`.
        kernels: List of `Kernel`.

    Returns:
        Dictionary from the path of a kernel to the `keras.Variable` of the
        scale; kernels without one are not in it.
    """
    inside = {id(layer) for _, layer in walk_layers(model)}
    found = {k.path: _following_scale(k, inside) for k in kernels}
    return {path: scale for path, scale in found.items() if scale is not None}


def with_scale_only(
    kernels: list[Kernel], scales: dict[str, Any]
) -> list[Kernel]:
    """The kernels that have a scale; a warning names the others.

    Args:
        kernels: List of `Kernel`.
        scales: Dictionary as `following_scales` gives it.

    Returns:
        List of `Kernel`.

    Raises:
        SqueezeError: If none has a scale.
    """
    without = [k.path for k in kernels if k.path not in scales]
    if len(without) == len(kernels):
        raise SqueezeError(
            "Expected at least one kernel whose layer's only consumer, in the "
            "graph of a Functional or Sequential model, is a "
            "BatchNormalization with `scale=True`. Received: "
            f"{', '.join(without)}, none of which has one"
        )
    if without:
        warnings.warn(
            "No BatchNormalization scales the outputs of these kernels, which "
            f"keep all their weights: {', '.join(without)}.",
            stacklevel=2,
        )
    return [kernel for kernel in kernels if kernel.path in scales]


def read_scale(kernel: Kernel, scale: Any) -> NDArray[Any]:
    """The absolute scale beside a kernel's output channels.

    Args:
        kernel: `Kernel`.
        scale: `keras.Variable` of one figure an output channel.

    Returns:
        Array that is broadcastable to the kernel.
    """
    shape = tuple(kernel.variable.shape)
    axes = channel_axis(kernel)
    kept = [n if axis in axes else 1 for axis, n in enumerate(shape)]
    absolute: NDArray[Any] = np.abs(to_numpy(scale))
    return absolute.reshape(kept)


def _following_scale(kernel: Kernel, inside: set[int]) -> Any | None:
    if kernel.attribute == "depthwise_kernel":
        # Its outputs go through the pointwise kernel first.
        if isinstance(kernel.layer, _SEPARABLE):
            return None
    elif kernel.attribute == "recurrent_kernel":
        return None
    consumers = {
        id(node.operation): node.operation
        for node in kernel.layer._outbound_nodes
        if id(node.operation) in inside
    }
    if len(consumers) != 1:
        return None
    (consumer,) = consumers.values()
    if not isinstance(consumer, keras.layers.BatchNormalization):
        return None
    shape = kernel.variable.shape
    channels = int(np.prod([shape[axis] for axis in channel_axis(kernel)]))
    gamma = consumer.gamma
    fits = gamma is not None and tuple(gamma.shape) == (channels,)
    return gamma if fits else None


_SEPARABLE = keras.layers.SeparableConv2D.__mro__[1]
