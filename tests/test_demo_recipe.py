import numpy as np
import pytest

from keras_squeeze.cli import demo_recipe as recipe
from keras_squeeze.surgery.layer_tree import find_kernels

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def data():
    return recipe.load_digits_data()


def test_the_digits_are_real_and_split(data):
    assert data.x_train.shape == (9 * 1347, 16, 16, 1)
    assert data.x_test.shape == (450, 16, 16, 1)
    assert data.x_train.dtype == np.float32
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert set(data.y_test) == set(range(10))
    assert len(data.y_train) == len(data.x_train)


def test_no_test_digit_is_trained_on(data):
    def rows(images):
        return {image.tobytes() for image in images}

    assert not rows(data.x_test) & rows(data.x_train)


def test_shifted_copies_hold_the_original_once(data):
    plain = recipe.load_digits_data(shifted=False)
    assert plain.x_train.shape == (1347, 16, 16, 1)
    center = data.x_train[4 * 1347 : 5 * 1347]
    np.testing.assert_array_equal(center, plain.x_train)
    upper = data.x_train[1 * 1347 : 2 * 1347]
    np.testing.assert_array_equal(upper[:, 1:], plain.x_train[:, :-1])
    np.testing.assert_array_equal(data.y_train[:1347], plain.y_train)
    np.testing.assert_array_equal(data.x_test, plain.x_test)


def test_the_network_has_the_parameters_it_is_known_by():
    model = recipe.build_digits_model()
    assert model.count_params() == recipe.PARAMETERS


def test_the_same_seed_makes_the_same_network():
    one, other = (recipe.build_digits_model(seed=3) for _ in range(2))
    for first, second in zip(
        one.get_weights(), other.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_pruning_callbacks_end_within_the_training_and_match_kernels(data):
    model = recipe.build_digits_model()
    steps = 5 * recipe.steps_per_epoch(data)
    matched = []
    for callback in recipe.pruning_callbacks(data, epochs=5):
        assert callback.schedule.end_step < steps
        kernels = find_kernels(model, callback.filters)
        matched += [kernel.path for kernel in kernels]
    assert sorted(matched) == sorted(
        ["conv_2/kernel", "conv_3/kernel", "hidden/kernel"]
    )


def test_training_learns_and_prunes():
    whole = recipe.load_digits_data(shifted=False)
    model = recipe.build_digits_model()
    callbacks = recipe.pruning_callbacks(whole, epochs=4)
    recipe.train(model, whole, callbacks, epochs=4)
    hidden = model.get_layer("hidden").get_weights()[0]
    sparsity = recipe.SPARSITIES["hidden/"]
    assert np.mean(hidden == 0) == pytest.approx(sparsity, abs=1e-5)
    assert recipe.accuracy(model, whole) > 0.8
