"""Kernels of a live model to codes and scales; the model is not changed."""

from __future__ import annotations

from typing import Any

from keras_squeeze import quantizers
from keras_squeeze.layers.conversion import QUANTIZED_CLASSES
from keras_squeeze.quantizers import QuantizedTensor, Quantizer
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    find_kernels,
    to_numpy,
)

DEFAULT_QUANTIZER = "mse"


def encode_kernels(
    model: Any,
    bits: int | None = None,
    quantizer: Any = None,
    filters: Filters = None,
    granularity: str = "per_channel",
    group_size: int | None = None,
) -> dict[int, QuantizedTensor]:
    """Quantizes copies of a model's kernels, recurrent ones included.

    Args:
        model: A built `keras.Model`.
        bits: Optional integer from 1 to 8, or 16. Defaults to `8`.
        quantizer: String, config or `Quantizer`; a `Quantizer` brings its own
            bits and granularity. Defaults to `"mse"`.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.
        granularity: String. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.

    Returns:
        Dictionary of the `id` of a kernel's variable to its
        `QuantizedTensor`, in model order.

    Raises:
        NoKernelMatchedError: If `filters` leaves no kernel.
        NonFiniteError: If a kernel holds NaN or infinity.
    """
    chosen = choose_quantizer(quantizer, bits, granularity, group_size)
    return {
        id(kernel.variable): encode_kernel(kernel, chosen)
        for kernel in find_kernels(model, filters)
    }


def choose_quantizer(
    quantizer: Any,
    bits: int | None,
    granularity: str,
    group_size: int | None,
) -> Quantizer:
    """The quantizer behind the arguments of a verb.

    Args:
        quantizer: String, config, `Quantizer`, or `None` for the default.
        bits: Integer, or `None` for 8.
        granularity: String.
        group_size: Integer or `None`.

    Returns:
        `Quantizer`.
    """
    return quantizers.get(
        DEFAULT_QUANTIZER if quantizer is None else quantizer,
        bits=8 if bits is None else bits,
        granularity=granularity,
        group_size=group_size,
    )


def encode_kernel(kernel: Kernel, quantizer: Quantizer) -> QuantizedTensor:
    """Quantizes a copy of one kernel.

    Args:
        kernel: `Kernel`.
        quantizer: `Quantizer`.

    Returns:
        `QuantizedTensor`.

    Raises:
        NonFiniteError: If the kernel holds NaN or infinity.
    """
    array = to_numpy(kernel.variable)
    return quantizer.encode(array, channel_axis(kernel), kernel.path)


def channel_axis(kernel: Kernel) -> tuple[int, ...]:
    """The axes of a kernel that index its output channels.

    Args:
        kernel: `Kernel`.

    Returns:
        Ascending tuple of axes.
    """
    shape = tuple(kernel.variable.shape)
    if kernel.attribute == "depthwise_kernel":
        return (len(shape) - 2, len(shape) - 1)
    for stock, target in QUANTIZED_CLASSES.items():
        if isinstance(kernel.layer, stock):
            axis: tuple[int, ...] = target.channel_axis(kernel.layer, shape)
            return axis
    return (len(shape) - 1,)
