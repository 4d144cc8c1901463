"""Keras' layers, trained with the rounding of their kernels."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from keras_squeeze.layers.quantization_aware import QuantizationAware

_register = keras.saving.register_keras_serializable(package="keras_squeeze")


@_register
class QuantizationAwareDense(QuantizationAware, keras.layers.Dense):
    """`keras.layers.Dense` that computes with its kernel rounded.

    Takes what `Dense` takes, and `kernel_quantizer`, `bits`, `granularity`,
    `group_size` and `learn_scale` (see `QuantizationAware`), as all layers of
    this module do.

    Example:
    >>> layer = QuantizationAwareDense(2, bits=4)
    >>> layer.build((None, 3))
    >>> [(v.name, tuple(v.shape)) for v in layer.trainable_variables]
    [('kernel', (3, 2)), ('bias', (2,)), ('kernel_log_step', (2, 1))]
    """


@_register
class QuantizationAwareEinsumDense(QuantizationAware, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` that computes with its kernel rounded."""


class _AwareEmbedding(QuantizationAware):
    kernel_names: ClassVar[tuple[str, ...]] = ("embeddings",)

    def __init__(self, *args: Any, weights: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if weights is not None:
            self.build()
            single = isinstance(weights, list) and len(weights) == 1
            variable = self.kernel_variable("embeddings")
            variable.assign(weights[0] if single else weights)


@_register
class QuantizationAwareEmbedding(_AwareEmbedding, keras.layers.Embedding):
    """`keras.layers.Embedding` that looks up rounded rows."""


@_register
class QuantizationAwareReversibleEmbedding(
    _AwareEmbedding, keras.layers.ReversibleEmbedding
):
    """`keras.layers.ReversibleEmbedding`, rounded in both directions."""

    kernel_names = ("embeddings", "reverse_embeddings")


@_register
class QuantizationAwareConv1D(QuantizationAware, keras.layers.Conv1D):
    """`keras.layers.Conv1D` that computes with its kernel rounded."""


@_register
class QuantizationAwareConv2D(QuantizationAware, keras.layers.Conv2D):
    """`keras.layers.Conv2D` that computes with its kernel rounded."""


@_register
class QuantizationAwareConv3D(QuantizationAware, keras.layers.Conv3D):
    """`keras.layers.Conv3D` that computes with its kernel rounded."""


@_register
class QuantizationAwareConv1DTranspose(
    QuantizationAware, keras.layers.Conv1DTranspose
):
    """`keras.layers.Conv1DTranspose` that computes with its kernel rounded."""


@_register
class QuantizationAwareConv2DTranspose(
    QuantizationAware, keras.layers.Conv2DTranspose
):
    """`keras.layers.Conv2DTranspose` that computes with its kernel rounded."""


@_register
class QuantizationAwareConv3DTranspose(
    QuantizationAware, keras.layers.Conv3DTranspose
):
    """`keras.layers.Conv3DTranspose` that computes with its kernel rounded."""


@_register
class QuantizationAwareDepthwiseConv1D(
    QuantizationAware, keras.layers.DepthwiseConv1D
):
    """`keras.layers.DepthwiseConv1D` that computes with its kernel rounded."""


@_register
class QuantizationAwareDepthwiseConv2D(
    QuantizationAware, keras.layers.DepthwiseConv2D
):
    """`keras.layers.DepthwiseConv2D` that computes with its kernel rounded."""


class _AwareSeparable(QuantizationAware):
    kernel_names = ("depthwise_kernel", "pointwise_kernel")


@_register
class QuantizationAwareSeparableConv1D(
    _AwareSeparable, keras.layers.SeparableConv1D
):
    """`keras.layers.SeparableConv1D` with both kernels rounded."""


@_register
class QuantizationAwareSeparableConv2D(
    _AwareSeparable, keras.layers.SeparableConv2D
):
    """`keras.layers.SeparableConv2D` with both kernels rounded."""


class QuantizationAwareCell(QuantizationAware):
    """Mixin: a cell whose kernel and recurrent kernel are rounded.

    Called by itself it rounds both at every call; the recurrent layers of
    this package round them once for all their time steps.
    """

    kernel_names = ("kernel", "recurrent_kernel")


@_register
class QuantizationAwareLSTMCell(QuantizationAwareCell, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with both kernels rounded."""


@_register
class QuantizationAwareGRUCell(QuantizationAwareCell, keras.layers.GRUCell):
    """`keras.layers.GRUCell` with both kernels rounded."""


@_register
class QuantizationAwareSimpleRNNCell(
    QuantizationAwareCell, keras.layers.SimpleRNNCell
):
    """`keras.layers.SimpleRNNCell` with both kernels rounded."""


@_register
class QuantizationAwareConvLSTMCell(QuantizationAwareCell, ConvLSTMCell):
    """The cell of `keras.layers.ConvLSTM2D` with both kernels rounded."""


#: The class that each class of Keras becomes.
QUANTIZATION_AWARE_CLASSES: dict[type, type] = {
    keras.layers.Dense: QuantizationAwareDense,
    keras.layers.EinsumDense: QuantizationAwareEinsumDense,
    keras.layers.Embedding: QuantizationAwareEmbedding,
    keras.layers.ReversibleEmbedding: QuantizationAwareReversibleEmbedding,
    keras.layers.Conv1D: QuantizationAwareConv1D,
    keras.layers.Conv2D: QuantizationAwareConv2D,
    keras.layers.Conv3D: QuantizationAwareConv3D,
    keras.layers.Conv1DTranspose: QuantizationAwareConv1DTranspose,
    keras.layers.Conv2DTranspose: QuantizationAwareConv2DTranspose,
    keras.layers.Conv3DTranspose: QuantizationAwareConv3DTranspose,
    keras.layers.DepthwiseConv1D: QuantizationAwareDepthwiseConv1D,
    keras.layers.DepthwiseConv2D: QuantizationAwareDepthwiseConv2D,
    keras.layers.SeparableConv1D: QuantizationAwareSeparableConv1D,
    keras.layers.SeparableConv2D: QuantizationAwareSeparableConv2D,
    keras.layers.LSTMCell: QuantizationAwareLSTMCell,
    keras.layers.GRUCell: QuantizationAwareGRUCell,
    keras.layers.SimpleRNNCell: QuantizationAwareSimpleRNNCell,
    ConvLSTMCell: QuantizationAwareConvLSTMCell,
}
