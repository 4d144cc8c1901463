"""Cells of recurrent layers with quantized kernels."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from keras_squeeze.layers.dequantization import computed_after
from keras_squeeze.layers.quantized_kernel import QuantizedKernel

_register = keras.saving.register_keras_serializable(package="keras_squeeze")


class QuantizedCell(QuantizedKernel):
    """Mixin: a cell whose kernel and recurrent kernel are quantized.

    Called by itself it computes both at every call; the recurrent layers of
    this package compute them once for all their time steps.
    """

    kernel_names = ("kernel", "recurrent_kernel")

    def call(  # type: ignore[override]
        self, inputs: Any, states: Any, training: Any = False
    ) -> Any:
        """What the Keras cell computes, with the dequantized kernels."""
        with computed_after(inputs):
            return super(QuantizedKernel, self).call(
                inputs, states, training=training
            )


@_register
class QuantizedLSTMCell(QuantizedCell, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with both kernels quantized.

    Takes what `LSTMCell` takes, and `kernel_quantizer`, `bits`,
    `granularity` and `group_size` (see `QuantizedKernel`), for both kernels,
    as all cells of this module do. A channel is one unit of one gate.

    Example:
    >>> cell = QuantizedLSTMCell(2, bits=4)
    >>> cell.build((None, 3))
    >>> [(v.name, tuple(v.shape)) for v in cell.non_trainable_variables[:2]]
    [('kernel_codes', (12,)), ('kernel_scale', (8, 1))]
    """


@_register
class QuantizedGRUCell(QuantizedCell, keras.layers.GRUCell):
    """`keras.layers.GRUCell` with both kernels quantized."""


@_register
class QuantizedSimpleRNNCell(QuantizedCell, keras.layers.SimpleRNNCell):
    """`keras.layers.SimpleRNNCell` with both kernels quantized."""


@_register
class QuantizedConvLSTMCell(QuantizedCell, ConvLSTMCell):
    """The cell of `keras.layers.ConvLSTM2D`, both kernels quantized."""
