import keras

from keras_squeeze.surgery.layer_tree import find_kernels
from keras_squeeze.surgery.unquantized_weights import (
    kernels_held_twice,
    unknown_weights,
)

L = keras.layers


class Tied(L.Layer):
    """Projects back with the embeddings of another layer."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.matrix = embedding.embeddings

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.matrix))


class Positions(L.Layer):
    """Adds a weight that is no kernel of a Keras layer."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")
        self.bias = self.add_weight(shape=(1, shape[-1]), name="bias")

    def call(self, inputs):
        return inputs + self.table + self.bias


def test_kernels_of_two_layers_are_named():
    embedding = L.Embedding(5, 4, name="rows")
    embedding.build()
    inputs = keras.Input((3,), dtype="int32")
    x = L.SpectralNormalization(L.Dense(4, name="inner"), name="norm")(
        embedding(inputs)
    )
    x = L.Dense(4, name="free")(x)
    model = keras.Model(inputs, Tied(embedding, name="back")(x))
    reasons = kernels_held_twice(model)
    named = {k.path: reasons.get(id(k.variable)) for k in find_kernels(model)}
    assert named.pop("free/kernel") is None
    assert len(named) == 2
    text = "; ".join(named.values())
    assert "rows (Embedding), back (Tied)" in text
    assert "norm (SpectralNormalization)" in text


def test_weights_of_unknown_layers_are_named():
    model = keras.Sequential(
        [
            keras.Input((3, 4)),
            Positions(name="places"),
            L.LayerNormalization(axis=(1, 2)),
            L.GRU(2, name="gru"),
            L.Dense(2),
        ]
    )
    assert unknown_weights(model) == [
        {"path": "places/table", "reason": "no quantized layer for Positions"}
    ]
    assert (
        unknown_weights(keras.Sequential([keras.Input((3,)), L.ReLU()])) == []
    )
