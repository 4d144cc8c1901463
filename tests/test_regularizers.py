import keras
import numpy as np
import pytest

from keras_squeeze.errors import SqueezeError
from keras_squeeze.regularizers import (
    NuclearNorm,
    Orthogonality,
    polar_factor,
)


def kernel(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def conditioned(rows, columns, least, seed=0):
    """A matrix and its polar factor; singular values from one to `least`."""
    u, _, v = np.linalg.svd(kernel(rows, columns, seed=seed), False)
    values = np.geomspace(1, least, min(rows, columns))
    return ((u * values) @ v).astype("float32"), u @ v


def nuclear_norm(array):
    return np.linalg.norm(array.reshape(-1, array.shape[-1]), "nuc")


def gradient(regularizer, array):
    """The gradient of the penalty on the backend at hand."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs TensorFlow's gradient tape")
    import tensorflow as tf

    variable = tf.Variable(array)
    with tf.GradientTape() as tape:
        penalty = regularizer(variable)
    return tape.gradient(penalty, variable).numpy()


@pytest.mark.parametrize(
    "shape",
    [(48, 48), (64, 24), (24, 64), (3, 3, 8, 16), (2, 2, 2, 4, 40), (7, 1)],
)
def test_nuclear_norm_is_the_one_of_numpy(shape):
    array = kernel(*shape)
    found = float(NuclearNorm(0.5)(array))
    assert found == pytest.approx(0.5 * nuclear_norm(array), rel=1e-3)


def test_a_vector_is_a_matrix_of_one_row():
    assert float(NuclearNorm(1.0)(np.array([3.0, 4.0], "float32"))) == (
        pytest.approx(5.0, rel=1e-3)
    )
    assert float(NuclearNorm(1.0)(np.float32(-2.0))) == pytest.approx(2.0)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_nuclear_norm_of_tiny_and_huge_kernels(scale):
    array = kernel(20, 12)
    found = float(NuclearNorm(1.0)(array * np.float32(scale)))
    assert found == pytest.approx(scale * nuclear_norm(array), rel=1e-3)


@pytest.mark.parametrize("regularizer", [NuclearNorm(1.0), Orthogonality(1.0)])
def test_zeros_cost_nothing_and_have_no_gradient(regularizer):
    zeros = np.zeros((6, 4), "float32")
    assert float(regularizer(zeros)) == 0
    np.testing.assert_array_equal(gradient(regularizer, zeros), 0)


@pytest.mark.parametrize("shape", [(40, 40), (50, 20), (20, 50)])
def test_the_gradient_of_the_nuclear_norm_is_the_polar_factor(shape):
    array, polar = conditioned(*shape, least=1e-2)
    found = gradient(NuclearNorm(0.1), array)
    np.testing.assert_allclose(found, 0.1 * polar, atol=1e-3)


def test_singular_values_near_zero_are_underestimated_only():
    array, _ = conditioned(40, 40, least=1e-7)
    lengths = np.linalg.svd(
        keras.ops.convert_to_numpy(polar_factor(array)), compute_uv=False
    )
    assert lengths.max() < 1.001
    assert float(NuclearNorm(1.0)(array)) == pytest.approx(
        nuclear_norm(array), rel=1e-3
    )


def orthogonality(matrix):
    """The penalty by its definition, in NumPy."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = tall.T @ tall
    away = gram - np.diag(gram).mean() * np.eye(len(gram))
    return np.linalg.norm(away) ** 2


@pytest.mark.parametrize("shape", [(30, 30), (30, 8), (8, 30), (3, 3, 4, 8)])
def test_orthogonality_is_what_it_says(shape):
    array = kernel(*shape)
    expected = orthogonality(array.reshape(-1, shape[-1]).astype("float64"))
    assert float(Orthogonality(0.5)(array)) == pytest.approx(
        0.5 * expected, rel=1e-4
    )


def test_orthogonal_factors_of_any_length_cost_nothing():
    _, polar = conditioned(20, 6, least=0.1)
    for scale in (0.1, 1.0, 10.0):
        factor = (scale * polar).astype("float32")
        assert float(Orthogonality(1.0)(factor)) < 1e-7 * scale**4
        assert float(Orthogonality(1.0)(factor.T)) < 1e-7 * scale**4


def test_the_gradient_of_orthogonality_leads_to_orthogonal_columns():
    factor, regularizer = kernel(20, 6) / 5, Orthogonality(1.0)
    before = float(regularizer(factor))
    for _ in range(50):
        factor = factor - 0.05 * gradient(regularizer, factor)
    assert float(regularizer(factor)) < 1e-3 * before
    assert np.linalg.norm(factor) > 1.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("cls", [NuclearNorm, Orthogonality])
def test_half_precision_is_computed_in_single(cls, dtype):
    array = keras.ops.cast(kernel(16, 8), dtype)
    penalty = cls(1.0)(array)
    found = keras.backend.standardize_dtype(penalty.dtype)
    assert found == ("float64" if dtype == "float64" else "float32")
    exact = cls(1.0)(keras.ops.cast(array, "float32"))
    assert float(penalty) == pytest.approx(float(exact), rel=1e-4)


@pytest.mark.parametrize("regularizer", [NuclearNorm(0.3), Orthogonality(0.7)])
def test_config_round_trip(regularizer):
    config = keras.regularizers.serialize(regularizer)
    assert config["registered_name"].startswith("keras_squeeze>")
    again = keras.regularizers.get(config)
    assert type(again) is type(regularizer)
    assert again.get_config() == regularizer.get_config()


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "x", None])
@pytest.mark.parametrize("cls", [NuclearNorm, Orthogonality])
def test_weights_that_are_refused(cls, weight):
    with pytest.raises(SqueezeError, match=r"at least 0. Received"):
        cls(weight)


@pytest.fixture(scope="module")
def fitted():
    """Kernels after equal fits, without and with the penalty attached."""
    x, y = kernel(256, 16), kernel(256, 4, seed=1)
    found = []
    for weight in (None, 0.05):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((16,)),
                keras.layers.Dense(16, activation="relu"),
                keras.layers.Dense(4),
            ]
        )
        if weight is not None:
            model.layers[0].kernel.regularizer = NuclearNorm(weight)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.fit(x, y, batch_size=64, epochs=10, verbose=0)
        found.append(model.layers[0].kernel.numpy())
    return found


def test_attached_to_a_variable_it_lowers_its_nuclear_norm(fitted):
    plain, penalized = fitted
    assert nuclear_norm(penalized) < 0.7 * nuclear_norm(plain)


def test_the_spectrum_falls_faster_under_the_penalty(fitted):
    tails = []
    for array in fitted:
        squares = np.linalg.svd(array, compute_uv=False) ** 2
        tails.append(squares[6:].sum() / squares.sum())
    assert tails[1] < 0.8 * tails[0]


def test_a_layer_with_a_regularizer_is_saved(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(4, kernel_regularizer=NuclearNorm(0.1)),
        ]
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[0].kernel_regularizer.weight == 0.1
    assert float(again.losses[0]) == pytest.approx(float(model.losses[0]))
