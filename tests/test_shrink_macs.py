import keras
import pytest

import keras_squeeze as ks
from keras_squeeze.shrinking import count_macs
from tests.shrink_models import L, nested


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((5,), lambda: L.Dense(3), 15),
        ((7, 5), lambda: L.Dense(3), 7 * 15),
        ((8, 8, 2), lambda: L.Conv2D(3, 3, strides=2), 9 * 9 * 2 * 3),
        ((8, 8, 4), lambda: L.Conv2D(6, 1, groups=2), 64 * 2 * 6),
        ((4, 4, 2), lambda: L.Conv2DTranspose(3, 3), 16 * 9 * 2 * 3),
        ((8, 8, 2), lambda: L.DepthwiseConv2D(3), 36 * 9 * 2),
        ((8, 2), lambda: L.SeparableConv1D(5, 3), 6 * (3 * 2 + 2 * 5)),
        ((7, 5), lambda: L.LSTM(3), 7 * (5 * 12 + 3 * 12)),
        ((7, 5), lambda: L.Bidirectional(L.GRU(3)), 2 * 7 * (5 + 3) * 9),
        ((7, 5), lambda: L.TimeDistributed(L.Dense(3)), 7 * 15),
        ((7, 5), lambda: L.BatchNormalization(), 0),
    ],
)
def test_operations_of_one_layer(shape, layer, expected):
    model = keras.Sequential([keras.Input(shape), layer()])
    assert sum(count_macs(model).values()) == expected


def test_attention_counts_projections_and_both_products():
    query, value = keras.Input((5, 6)), keras.Input((7, 8))
    y = L.MultiHeadAttention(2, 3, value_dim=4)(query, value)
    projections = 5 * 6 * 6 + 7 * 8 * 6 + 7 * 8 * 8 + 5 * 8 * 6
    products = 5 * 7 * 2 * (3 + 4)
    counts = count_macs(keras.Model([query, value], y))
    assert sum(counts.values()) == projections + products


def test_a_layer_that_is_called_twice_counts_twice():
    model = nested()
    twice = model.get_layer("twice")
    counts = count_macs(model)
    assert counts[id(twice.layers[0])] == 2 * 6 * 5


def test_einsum_kernels_of_several_output_axes():
    inputs = keras.Input((5, 4))
    einsum = L.EinsumDense("abc,cde->abde", (5, 2, 3))
    model = keras.Model(inputs, einsum(inputs))
    # Five places, at each a kernel of 4 x 2 x 3.
    assert count_macs(model)[id(einsum)] == 5 * 24


def test_factors_are_counted_not_their_product():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            ks.layers.LowRankConv2D(
                10, 3, strides=2, padding="same", rank=2, method="spatial_svd"
            ),
            L.Flatten(),
            ks.layers.LowRankDense(12, rank=3),
        ]
    )
    convolution, _, dense = model.layers
    first, second = 4 * 8 * (3 * 6 * 2), 4 * 4 * (3 * 2 * 10)
    counts = count_macs(model)
    assert counts[id(convolution)] == first + second
    assert counts[id(dense)] == 160 * 3 + 3 * 12
