import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_squeeze as ks
from keras_squeeze.calibration.fisher_information import fisher_information
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers import KMeansQuantizer


def classifier():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((5, 5, 1)),
            keras.layers.Conv2D(2, 3, activation="relu", name="conv"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="softmax", name="out"),
        ]
    )


def data(count=6):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, 5, 5, 1)).astype("float32")
    return x, rng.integers(0, 3, count)


@pytest.fixture(scope="module")
def case():
    model = classifier()
    x, y = data()
    loss = "sparse_categorical_crossentropy"
    return model, x, y, fisher_information(model, x, y, loss)


def test_it_is_the_mean_of_squared_gradients_of_single_samples(case):
    model, x, y, found = case
    kernels = {"conv/kernel": 0, "out/kernel": -2}
    assert set(found) == set(kernels)
    for path, place in kernels.items():
        variable = model.trainable_variables[place].value
        squares = []
        for i in range(len(x)):
            with tf.GradientTape() as tape:
                probability = model(x[i : i + 1], training=False)[0, y[i]]
                value = -tf.math.log(probability)
            squares.append(np.square(tape.gradient(value, variable)))
        expected = np.mean(squares, axis=0)
        assert found[path].dtype == np.float32
        np.testing.assert_allclose(found[path], expected, 1e-4, 1e-9)


def test_the_model_stays_as_it_was_and_its_own_loss_is_the_default(case):
    model, x, y, found = case
    before = [np.array(v) for v in model.get_weights()]
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy())
    pairs = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    again = fisher_information(model, pairs, filters="out")
    assert list(again) == ["out/kernel"]
    np.testing.assert_allclose(again["out/kernel"], found["out/kernel"], 1e-5)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(old, new)


def test_without_labels_it_is_that_of_the_outputs():
    # One output: the sign does not matter, so the estimate is exact.
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    x = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]], "float32")
    (found,) = fisher_information(model, x).values()
    assert found.ravel().tolist() == [5.0, 2.0, 0.0]
    (again,) = fisher_information(
        model, tf.data.Dataset.from_tensors(x)
    ).values()
    assert np.array_equal(found, again)


def test_frozen_and_unused_kernels_and_embeddings():
    tokens = keras.Input((2,), dtype="int32")
    embedded = keras.layers.Embedding(4, 2, name="tokens")(tokens)
    model = keras.Model(tokens, keras.ops.sum(embedded, axis=(1, 2)))
    model.trainable = False
    found = fisher_information(model, np.array([[0, 1], [0, 0]]))
    ones = np.array([[2.5, 2.5], [0.5, 0.5], [0, 0], [0, 0]])
    assert np.array_equal(found["tokens/embeddings"], ones)


def test_it_serves_as_importance(case, tmp_path):
    model, _, _, found = case
    ks.export(model, tmp_path / "a.h5", snr_db=15, importance=found)
    kernel = np.asarray(model.get_layer("out").kernel)
    fisher = found["out/kernel"]
    plain = KMeansQuantizer(2, "per_tensor")

    def error(tensor):
        return float(np.sum(fisher * (tensor.dequantize() - kernel) ** 2))

    weighted = plain.encode(kernel, importance=fisher)
    assert error(weighted) < 0.9 * error(plain.encode(kernel))


def test_bad_input(case):
    model, x, y, _ = case
    with pytest.raises(SqueezeError, match="at least one sample"):
        fisher_information(model, x[:0], y[:0], "mse")
    with pytest.raises(SqueezeError, match=r"\[3, 6\]"):
        fisher_information(model, x, y[:3], "mse")
    with pytest.raises(SqueezeError, match="loss"):
        fisher_information(classifier(), x, y)
    broken = np.where(np.arange(5)[:, None] == 1, np.nan, x)
    with pytest.raises(NonFiniteError, match="conv/kernel"):
        fisher_information(
            model, broken[:1], y[:1], "sparse_categorical_crossentropy"
        )
