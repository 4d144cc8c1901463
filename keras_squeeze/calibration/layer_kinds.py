"""The abstract layers behind Keras' public ones, by the use of kernels."""

from __future__ import annotations

from typing import Any

import keras

_layers = keras.layers


def _base(name: str) -> type:
    """The abstract base behind a public layer: Conv2D -> BaseConv."""
    base: type = getattr(_layers, name).__mro__[1]
    return base


Convolution = _base("Conv2D")
TransposedConvolution = _base("Conv2DTranspose")
DepthwiseConvolution = _base("DepthwiseConv2D")
SeparableConvolution = _base("SeparableConv2D")
RECURRENT_CELLS = (_layers.LSTMCell, _layers.GRUCell, _layers.SimpleRNNCell)


def is_convolutional_cell(layer: Any) -> bool:
    """Whether a layer is the cell of a ConvLSTM, which Keras keeps private."""
    return any(c.__name__ == "ConvLSTMCell" for c in type(layer).__mro__)
