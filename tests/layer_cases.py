"""Every Keras layer that has a quantized class: its arguments and an input."""

import keras
import numpy as np

from keras_squeeze.layers.quantized_recurrent_cell import ConvLSTMCell

L = keras.layers
_IMAGE = (2, 5, 5, 4)

#: Class of Keras -> arguments, shape of the input.
CASES = {
    L.Dense: ({"units": 5, "kernel_regularizer": "l2"}, (2, 6)),
    L.EinsumDense: (
        {
            "equation": "abc,cde->abde",
            "output_shape": (None, 2, 3),
            "bias_axes": "de",
        },
        (2, 5, 4),
    ),
    L.Embedding: ({"input_dim": 11, "output_dim": 5}, (2, 3)),
    L.Conv1D: ({"filters": 6, "kernel_size": 3}, (2, 9, 4)),
    L.Conv2D: (
        {"filters": 6, "kernel_size": 3, "kernel_constraint": "max_norm"},
        _IMAGE,
    ),
    L.Conv3D: ({"filters": 3, "kernel_size": 2}, (1, 3, 3, 3, 4)),
    L.Conv1DTranspose: ({"filters": 6, "kernel_size": 3}, (2, 5, 4)),
    L.Conv2DTranspose: ({"filters": 6, "kernel_size": 3}, _IMAGE),
    L.Conv3DTranspose: ({"filters": 2, "kernel_size": 2}, (1, 3, 3, 3, 4)),
    L.DepthwiseConv1D: ({"kernel_size": 3}, (2, 9, 4)),
    L.DepthwiseConv2D: (
        {"kernel_size": 3, "depthwise_regularizer": "l2"},
        _IMAGE,
    ),
    L.SeparableConv1D: ({"filters": 6, "kernel_size": 3}, (2, 9, 4)),
    L.SeparableConv2D: (
        {"filters": 6, "kernel_size": 3, "pointwise_regularizer": "l2"},
        _IMAGE,
    ),
    L.ReversibleEmbedding: (
        {"input_dim": 11, "output_dim": 5, "tie_weights": False},
        (2, 3),
    ),
    L.LSTMCell: ({"units": 3}, (2, 4)),
    L.GRUCell: ({"units": 3, "recurrent_regularizer": "l2"}, (2, 4)),
    L.SimpleRNNCell: ({"units": 3}, (2, 4)),
    ConvLSTMCell: ({"rank": 2, "filters": 3, "kernel_size": 2}, _IMAGE),
}


#: Shapes of a cell's states, for those layers that are cells.
_STATES = {
    L.LSTMCell: [(2, 3), (2, 3)],
    L.GRUCell: [(2, 3)],
    L.SimpleRNNCell: [(2, 3)],
    ConvLSTMCell: [(2, 4, 4, 3), (2, 4, 4, 3)],
}


def input_dtype(stock):
    return "int32" if issubclass(stock, L.Embedding) else "float32"


def inputs(stock):
    """An array for the layer of that class in `CASES`."""
    values = np.random.default_rng(1).uniform(0, 3, size=CASES[stock][1])
    return values.astype(input_dtype(stock))


def outputs(layer, stock):
    """What a layer makes of `inputs(stock)`, as a flat list."""
    if stock not in _STATES:
        return [layer(inputs(stock))]
    states = [np.ones(shape, "float32") for shape in _STATES[stock]]
    return keras.tree.flatten(layer(inputs(stock), states))
