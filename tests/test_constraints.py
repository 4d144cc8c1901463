import keras
import numpy as np
import pytest

from keras_squeeze.constraints import MaskConstraint
from keras_squeeze.errors import SqueezeError

MASK = np.array([[True, False, True], [False, True, True]])
WEIGHTS = np.array([[1.0, -2.0, 3.0], [np.nan, 5.0, -6.0]], "float32")


def test_pruned_weights_become_positive_zero():
    result = keras.ops.convert_to_numpy(MaskConstraint(MASK)(WEIGHTS))
    np.testing.assert_array_equal(result, [[1, 0, 3], [0, 5, -6]])
    assert not np.signbit(result[~MASK]).any()


def test_inner_constraint_comes_first():
    constraint = MaskConstraint(MASK, inner=keras.constraints.NonNeg())
    result = keras.ops.convert_to_numpy(constraint(WEIGHTS))
    np.testing.assert_array_equal(result, [[1, 0, 3], [0, 5, 0]])


def test_a_variable_is_read_at_every_call():
    mask = keras.Variable(np.ones((2, 3), bool), dtype="bool", trainable=False)
    constraint = MaskConstraint(mask)
    mask.assign(MASK)
    result = keras.ops.convert_to_numpy(constraint(WEIGHTS))
    np.testing.assert_array_equal(result == 0, ~MASK)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_dtype_stays(dtype):
    tensor = keras.ops.cast(np.ones((2, 3)), dtype)
    result = MaskConstraint(MASK)(tensor)
    assert keras.backend.standardize_dtype(result.dtype) == dtype


@pytest.mark.parametrize("inner", [None, keras.constraints.MaxNorm(2.0)])
def test_config_round_trip(inner):
    constraint = MaskConstraint(MASK, inner=inner)
    config = keras.saving.serialize_keras_object(constraint)
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(again.mask, MASK)
    assert type(again.inner) is type(inner)
    assert keras.saving.serialize_keras_object(again) == config


def test_a_layer_with_a_fixed_mask_is_saved_and_trains_inside_it(tmp_path):
    layer = keras.layers.Dense(3, kernel_constraint=MaskConstraint(MASK))
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    kernel = again.layers[0].get_weights()[0]
    np.testing.assert_array_equal(kernel == 0, ~MASK)
    np.testing.assert_array_equal(again.layers[0].kernel_constraint.mask, MASK)


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(SqueezeError, match=r"boolean.*Received: dtype=float64"):
        MaskConstraint(np.ones((2, 3)))
