"""Convolutions with quantized kernels."""

from __future__ import annotations

import keras

from keras_squeeze.layers.quantized_kernel import QuantizedKernel

_register = keras.saving.register_keras_serializable(package="keras_squeeze")


@_register
class QuantizedConv1D(QuantizedKernel, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with codes and a scale for each filter."""


@_register
class QuantizedConv2D(QuantizedKernel, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with codes and a scale for each filter.

    Takes what `Conv2D` takes, and `kernel_quantizer`, `bits`, `granularity`
    and `group_size` (see `QuantizedKernel`), as all layers of this module do.

    Example:
    >>> layer = QuantizedConv2D(8, 3, bits=2)
    >>> layer.build((None, 16, 16, 4))
    >>> [(v.name, tuple(v.shape)) for v in layer.non_trainable_variables]
    [('kernel_codes', (72,)), ('kernel_scale', (8, 1))]
    """


@_register
class QuantizedConv3D(QuantizedKernel, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with codes and a scale for each filter."""


class _QuantizedDepthwise(QuantizedKernel):
    def channel_axis(
        self, shape: tuple[int, ...], name: str = "kernel"
    ) -> tuple[int, ...]:
        """Input channel and multiplier: together one output channel."""
        return (len(shape) - 2, len(shape) - 1)


@_register
class QuantizedDepthwiseConv1D(
    _QuantizedDepthwise, keras.layers.DepthwiseConv1D
):
    """`keras.layers.DepthwiseConv1D`, a scale for each output channel."""


@_register
class QuantizedDepthwiseConv2D(
    _QuantizedDepthwise, keras.layers.DepthwiseConv2D
):
    """`keras.layers.DepthwiseConv2D`, a scale for each output channel."""


class _QuantizedTranspose(QuantizedKernel):
    def channel_axis(
        self, shape: tuple[int, ...], name: str = "kernel"
    ) -> tuple[int, ...]:
        """The filters, which lie before the inputs in these kernels."""
        return (len(shape) - 2,)


@_register
class QuantizedConv1DTranspose(
    _QuantizedTranspose, keras.layers.Conv1DTranspose
):
    """`keras.layers.Conv1DTranspose`, a scale for each filter."""


@_register
class QuantizedConv2DTranspose(
    _QuantizedTranspose, keras.layers.Conv2DTranspose
):
    """`keras.layers.Conv2DTranspose`, a scale for each filter."""


@_register
class QuantizedConv3DTranspose(
    _QuantizedTranspose, keras.layers.Conv3DTranspose
):
    """`keras.layers.Conv3DTranspose`, a scale for each filter."""
