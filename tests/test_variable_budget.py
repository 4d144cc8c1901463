"""A config cannot ask for more memory than its file may."""

import threading

import keras
import pytest

from keras_squeeze.errors import LimitExceededError
from keras_squeeze.saving.model_config import build_model
from keras_squeeze.saving.variable_budget import variable_budget

HUGE = 10**10


def description(batch_shape, class_name, config):
    def node(name, config, module="keras.layers"):
        return {
            "module": module,
            "class_name": name,
            "config": config,
            "registered_name": None,
        }

    inputs = node("InputLayer", {"batch_shape": batch_shape})
    layers = [inputs, node(class_name, config)]
    model = node("Sequential", {"name": "m", "layers": layers}, "keras")
    return {"class_name": "Sequential", "config": model}


@pytest.mark.parametrize(
    ("shape", "class_name", "config"),
    [
        ([None, 4], "Dense", {"units": HUGE}),
        (
            [None, 4],
            "Dense",
            {"units": HUGE, "kernel_initializer": "zeros", "use_bias": False},
        ),
        ([None, HUGE], "Dense", {"units": 4}),
        ([None, HUGE], "BatchNormalization", {}),
        ([None, 4], "Embedding", {"input_dim": HUGE, "output_dim": 4}),
        ([None, 4, 4], "LSTM", {"units": HUGE}),
        ([None, 8, 8, 1], "Conv2D", {"filters": HUGE, "kernel_size": [3, 3]}),
        ([None, 4, HUGE], "PReLU", {}),
    ],
)
def test_a_layer_of_any_size_is_not_allocated(shape, class_name, config):
    hostile = description(shape, class_name, config)
    with (
        variable_budget(1 << 20, "m.h5"),
        pytest.raises(LimitExceededError, match=r"'m\.h5' to ask for"),
    ):
        build_model(hostile, "m.h5")


def test_many_layers_are_summed_up():
    with variable_budget(1000, "m.h5"):
        keras.layers.Dense(10, use_bias=False).build((None, 20))
        with pytest.raises(LimitExceededError, match="1,200 bytes"):
            keras.layers.Dense(10, use_bias=False).build((None, 10))


@pytest.mark.parametrize(
    ("dtype", "itemsize"),
    [("float32", 4), ("bfloat16", 2), ("int8", 1), ("bool", 1), (None, 4)],
)
def test_variables_are_charged_by_their_dtype(dtype, itemsize):
    make = keras.layers.Layer().add_weight
    with variable_budget(10 * itemsize, "m.h5"):
        make(shape=(10,), dtype=dtype, initializer="zeros")
        with pytest.raises(LimitExceededError):
            make(shape=(1,), dtype=dtype, initializer="zeros")


def test_nothing_is_bounded_outside_the_block_and_in_other_threads():
    built = []

    def build():
        built.append(keras.layers.Dense(10).build((None, 10)))

    with variable_budget(10, "m.h5"):
        thread = threading.Thread(target=build)
        thread.start()
        thread.join()
    build()
    assert len(built) == 2


def test_without_a_budget_the_constructor_is_that_of_keras():
    own = keras.Variable.__init__
    with variable_budget(1000, "a.h5"), variable_budget(1000, "b.h5"):
        assert keras.Variable.__init__ is not own
    assert keras.Variable.__init__ is own
    with pytest.raises(ValueError, match="stop"), variable_budget(1, "a.h5"):
        raise ValueError("stop")
    assert keras.Variable.__init__ is own
