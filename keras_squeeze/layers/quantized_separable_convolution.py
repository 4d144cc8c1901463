"""Separable convolutions with quantized kernels."""

from __future__ import annotations

import keras

from keras_squeeze.layers.quantized_kernel import QuantizedKernel

_register = keras.saving.register_keras_serializable(package="keras_squeeze")


class _QuantizedSeparable(QuantizedKernel):
    kernel_names = ("depthwise_kernel", "pointwise_kernel")

    def channel_axis(
        self, shape: tuple[int, ...], name: str = "pointwise_kernel"
    ) -> tuple[int, ...]:
        """The filters; input channel and multiplier of the depthwise part."""
        last = len(shape) - 1
        return (last - 1, last) if name == "depthwise_kernel" else (last,)


@_register
class QuantizedSeparableConv1D(
    _QuantizedSeparable, keras.layers.SeparableConv1D
):
    """`keras.layers.SeparableConv1D` with both kernels quantized."""


@_register
class QuantizedSeparableConv2D(
    _QuantizedSeparable, keras.layers.SeparableConv2D
):
    """`keras.layers.SeparableConv2D` with both kernels quantized.

    Takes what `SeparableConv2D` takes, and `kernel_quantizer`, `bits`,
    `granularity` and `group_size` (see `QuantizedKernel`), for both kernels.

    Example:
    >>> layer = QuantizedSeparableConv2D(8, 3, bits=4, use_bias=False)
    >>> layer.build((None, 16, 16, 4))
    >>> for variable in layer.variables:
    ...     print(variable.name, tuple(variable.shape))
    depthwise_kernel_codes (18,)
    depthwise_kernel_scale (4, 1)
    pointwise_kernel_codes (16,)
    pointwise_kernel_scale (8, 1)
    """
