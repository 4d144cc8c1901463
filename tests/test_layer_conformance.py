"""Quantized layers pass the tests that Keras has for its own layers.

`run_layer_test` checks the config (also through JSON), the build, a symbolic
and an eager call and their shapes and dtypes, the number of variables, and
mixed precision. One layer of each kind takes its compiled training step too.
"""

import keras
import pytest
from keras.src.testing import TestCase

from keras_squeeze import layers as Q
from keras_squeeze.layers.conversion import QUANTIZED_CLASSES
from tests.layer_cases import CASES, input_dtype

L = keras.layers
TRAINED = {L.Dense, L.Embedding, L.Conv2D, L.SeparableConv2D, Q.QuantizedLSTM}
PLAIN = [kind for kind in CASES if not kind.__name__.endswith("Cell")]
FRAMES = {"filters": 2, "kernel_size": 2}
RECURRENT = {
    Q.QuantizedLSTM: ({"units": 2}, (2, 3, 4)),
    Q.QuantizedGRU: ({"units": 2}, (2, 3, 4)),
    Q.QuantizedSimpleRNN: ({"units": 2}, (2, 3, 4)),
    Q.QuantizedConvLSTM1D: (FRAMES, (1, 2, 4, 3)),
    Q.QuantizedConvLSTM2D: (FRAMES, (1, 2, 4, 4, 3)),
    Q.QuantizedConvLSTM3D: (FRAMES, (1, 2, 3, 3, 3, 2)),
}
ATTENTION = {
    Q.QuantizedMultiHeadAttention: {"num_heads": 2, "key_dim": 2},
    Q.QuantizedGroupedQueryAttention: {
        "head_dim": 2,
        "num_query_heads": 2,
        "num_key_value_heads": 1,
    },
}
#: Layers and quantizers, and what those add to codes and scale: variables.
QUANTIZERS = [
    (L.Dense, "affine", 1),
    (L.Dense, "nf4", 0),
    (L.Dense, "kmeans", 1),
    (L.Conv2D, "kmeans", 1),
    (L.Embedding, "kmeans", 1),
]


def conforms(kind, arguments, shape, trainable, frozen, train=False, **more):
    """Runs Keras' test of a layer; four bits a weight."""
    TestCase().run_layer_test(
        kind,
        {**arguments, "bits": 4},
        input_shape=shape,
        expected_num_trainable_weights=trainable,
        expected_num_non_trainable_weights=frozen,
        expected_num_losses=0,
        run_training_check=train,
        **more,
    )


def count_biases(stock):
    return 0 if issubclass(stock, L.Embedding) else 1


@pytest.mark.parametrize("stock", PLAIN, ids=lambda kind: kind.__name__)
def test_layer(stock):
    arguments, shape = CASES[stock]
    kind = QUANTIZED_CLASSES[stock]
    conforms(
        kind,
        arguments,
        shape,
        count_biases(stock),
        2 * len(kind.kernel_names),
        train=stock in TRAINED,
        input_dtype=input_dtype(stock),
    )


@pytest.mark.parametrize("kind", RECURRENT, ids=lambda kind: kind.__name__)
def test_recurrent_layer(kind):
    conforms(kind, *RECURRENT[kind], 1, 4, train=kind in TRAINED)


def test_cell_in_a_recurrent_layer():
    cell = Q.QuantizedGRUCell(2, bits=4)
    TestCase().run_layer_test(
        Q.QuantizedRNN,
        {"cell": cell},
        input_shape=(2, 3, 4),
        expected_num_trainable_weights=1,
        expected_num_non_trainable_weights=4,
        run_training_check=False,
    )


@pytest.mark.parametrize("kind", ATTENTION, ids=lambda kind: kind.__name__)
def test_attention_layer(kind):
    shapes = {"query_shape": (2, 3, 4), "value_shape": (2, 5, 4)}
    conforms(kind, ATTENTION[kind], shapes, 4, 8)


@pytest.mark.parametrize(("stock", "name", "added"), QUANTIZERS)
def test_quantizer(stock, name, added):
    arguments, shape = CASES[stock]
    conforms(
        QUANTIZED_CLASSES[stock],
        {**arguments, "kernel_quantizer": name},
        shape,
        count_biases(stock),
        2 + added,
        input_dtype=input_dtype(stock),
    )
