"""What is gathered inside a training step, against what it should be."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_squeeze.errors import SqueezeError
from keras_squeeze.masking import Pruner
from keras_squeeze.masking.activation_statistics import ActivationStatistics
from keras_squeeze.masking.callback_order import warn_of_savers_before
from keras_squeeze.masking.gradient_statistics import NAMES, GradientStatistics
from keras_squeeze.masking.input_axes import input_axes
from keras_squeeze.masking.kernel_mask import KernelMask
from keras_squeeze.masking.method_hook import listen, unlisten
from keras_squeeze.masking.normalization_scale import (
    following_scales,
    read_scale,
    with_scale_only,
)
from keras_squeeze.masking.optimizer_slots import (
    find_average,
    find_slots,
    inner_optimizers,
    mixes_rows,
)
from keras_squeeze.masking.statistics import Statistics
from keras_squeeze.masking.step_counter import StepCounter
from keras_squeeze.masking.training_mask import SplicingMask
from keras_squeeze.surgery.layer_tree import find_kernels, to_numpy


def dense_model(units=3, inputs=4):
    keras.utils.set_random_seed(0)
    stack = [keras.Input((inputs,)), layers.Dense(units, name="dense")]
    return keras.Sequential(stack)


def gradients_of(steps, shape=(4, 3)):
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype("float32") for _ in range(steps)]


def apply_one(optimizer, variable, gradient):
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])


@pytest.mark.parametrize("wrapped", [False, True])
def test_gradient_statistics_are_means_over_the_steps(wrapped):
    model = dense_model()
    (kernel,) = find_kernels(model)
    optimizer = keras.optimizers.SGD(0.5)
    outer = keras.optimizers.LossScaleOptimizer(optimizer, 8.0)
    outer = outer if wrapped else optimizer
    statistics = GradientStatistics(model, [kernel], NAMES, outer)
    statistics.attach()
    products = []
    gradients = gradients_of(3)
    for gradient in gradients:
        products.append(gradient * to_numpy(kernel.variable))
        scale = 8.0 if wrapped else 1.0
        apply_one(outer, kernel.variable, gradient * scale)
    (found,) = statistics.read()
    expected = {
        "gradient": np.mean(gradients, 0),
        "gradient_l1": np.mean(np.abs(gradients), 0),
        "gradient_l2": np.sqrt(np.mean(np.square(gradients), 0)),
        "gradient_times_weight": np.mean(products, 0),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7)
    statistics.reset()
    assert statistics.missing() == ["dense/kernel"]
    statistics.detach()
    assert "update_step" not in vars(optimizer)
    apply_one(outer, kernel.variable, gradients[0])
    assert statistics.missing() == ["dense/kernel"]


def test_accumulated_and_clipped_gradients_are_those_of_the_update():
    model = dense_model()
    (kernel,) = find_kernels(model)
    optimizer = keras.optimizers.SGD(
        1.0, gradient_accumulation_steps=2, clipvalue=0.25
    )
    statistics = GradientStatistics(model, [kernel], ["gradient"], optimizer)
    statistics.attach()
    before = to_numpy(kernel.variable).copy()
    for gradient in gradients_of(2):
        apply_one(optimizer, kernel.variable, gradient)
    moved = before - to_numpy(kernel.variable)
    (found,) = statistics.read()
    np.testing.assert_allclose(found["gradient"], moved, rtol=1e-4, atol=1e-6)
    assert np.abs(found["gradient"]).max() <= 0.25


def test_an_embeddings_sparse_gradient_is_summed_over_repeated_rows():
    import tensorflow as tf

    layer = layers.Embedding(5, 2)
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    optimizer = keras.optimizers.Adam()
    kernels = find_kernels(model)
    statistics = GradientStatistics(model, kernels, ["gradient_l1"], optimizer)
    statistics.attach()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(np.array([[1, 1, 4]])))
    gradient = tape.gradient(loss, layer.embeddings.value)
    assert isinstance(gradient, tf.IndexedSlices)
    optimizer.apply([gradient], [layer.embeddings])
    (found,) = statistics.read()
    rows = np.array([0, 2, 0, 0, 1.0])
    np.testing.assert_array_equal(found["gradient_l1"], rows[:, None] * [1, 1])


def test_gradients_without_an_optimizer_are_refused():
    with pytest.raises(SqueezeError, match=r"optimizer.*Received: .*None"):
        GradientStatistics(dense_model(), [], ["gradient"], None)


def test_an_unknown_statistic_is_refused():
    with pytest.raises(SqueezeError, match=r"gradient_l1.*Received: hessian"):
        Statistics(dense_model(), [], ["hessian"], None)


class Owner:
    def method(self, value, times=1):
        return value * times


def test_listeners_of_one_fit_share_a_hook_and_those_of_another_go():
    class History:
        pass

    old, new, heard = History(), History(), []
    owner = Owner()
    first, second = (lambda *a: heard.append("old")), heard.append
    third = lambda value, times=1: heard.append(times)  # noqa: E731
    listen(owner, "method", first, old)
    listen(owner, "method", second, new)
    listen(owner, "method", third, new)
    assert owner.method(2) == 2
    assert heard == [2, 1]
    unlisten(owner, "method", second)
    assert owner.method(2, times=3) == 6
    assert heard == [2, 1, 3]
    unlisten(owner, "method", third)
    assert "method" not in vars(owner)


SINGLE = {
    "dense": (layers.Dense(3), (5, 4), {"kernel": (4, 1)}),
    "conv": (
        layers.Conv2D(6, 3, groups=2),
        (5, 5, 4),
        {"kernel": (1, 1, 2, 6)},
    ),
    "depthwise": (
        layers.DepthwiseConv1D(3, depth_multiplier=2),
        (7, 4),
        {"kernel": (1, 4, 1)},
    ),
    "transposed": (
        layers.Conv2DTranspose(6, 3),
        (5, 5, 4),
        {"kernel": (1, 1, 1, 4)},
    ),
    "einsum": (
        layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3)),
        (5, 4),
        {"kernel": (4, 1, 1)},
    ),
    "attention_output": (
        layers.EinsumDense("abhd,hde->abe", output_shape=(None, 6)),
        (5, 2, 4),
        {"kernel": (2, 4, 1)},
    ),
    "ellipsis": (
        layers.EinsumDense("...d,de->...e", output_shape=6),
        (5, 4),
        {"kernel": (4, 1)},
    ),
    "lstm": (
        layers.LSTM(3),
        (5, 4),
        {"kernel": (4, 1), "recurrent_kernel": (3, 1)},
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_activation_statistics_lie_beside_the_kernel(name):
    layer, shape, expected = SINGLE[name]
    model = keras.Sequential([keras.Input(shape), layer])
    kernels = find_kernels(model)
    statistics = ActivationStatistics(model, kernels)
    statistics.attach()
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype("float32")
    # One input feature is three times as large as the others.
    x[..., -1] *= 3
    model(x, training=True)
    assert statistics.missing() == [k.path for k in kernels]
    statistics.recording = True
    model(x, training=False)
    assert statistics.missing() == [k.path for k in kernels]
    model(x, training=True)
    model(2 * x, training=True)
    found = statistics.read()
    for kernel, one in zip(kernels, found, strict=True):
        array = one["activation"]
        assert array.shape == expected[kernel.attribute]
        np.broadcast_to(array, kernel.variable.shape)
        if kernel.attribute == "recurrent_kernel":
            assert np.all(array > 0)
            continue
        mean = np.sqrt(np.mean(np.square(x), axis=tuple(range(x.ndim - 1))))
        known = np.unique(np.round(array, 5))
        if name != "attention_output":
            wanted = np.unique(np.round(mean * np.sqrt(2.5), 5))
            # Keras calls a cell twice with the first time step.
            rtol = 0.1 if name == "lstm" else 1e-4
            np.testing.assert_allclose(known, wanted, rtol=rtol)
        else:
            mean = np.sqrt(np.mean(np.square(x), axis=(0, 1)) * 2.5)
            np.testing.assert_allclose(array[..., 0], mean, rtol=1e-4)
    statistics.detach()
    assert "call" not in vars(kernels[0].layer)


def test_groups_of_a_convolution_see_their_own_inputs():
    layer = layers.Conv1D(6, 1, groups=3)
    layer.build((None, 4, 6))
    kernel = find_kernels(keras.Sequential([keras.Input((4, 6)), layer]))[0]
    arranged = input_axes(kernel).arrange(np.arange(6.0))
    np.testing.assert_array_equal(
        arranged[0], [[0, 0, 2, 2, 4, 4], [1, 1, 3, 3, 5, 5]]
    )


def test_kernels_that_meet_no_inputs_are_named():
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(5, 2, name="words"),
            layers.Flatten(),
            layers.Dense(2, name="head"),
        ]
    )
    kernels = find_kernels(model)
    with pytest.raises(SqueezeError, match=r"filters.*Received: words"):
        ActivationStatistics(model, kernels)
    ActivationStatistics(model, find_kernels(model, "head"))


def normalized_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="with")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    shared = layers.Conv2D(4, 3, name="branching")(x)
    x = layers.BatchNormalization(name="second")(shared)
    x = layers.Add()([x, shared])
    x = layers.DepthwiseConv2D(1, depth_multiplier=2, name="depth")(x)
    x = layers.BatchNormalization(name="third")(x)
    x = layers.Conv2D(4, 1, name="unscaled")(x)
    x = layers.BatchNormalization(scale=False)(x)
    return keras.Model(inputs, x)


def test_the_scale_is_that_of_the_only_consumer():
    model = normalized_model()
    gamma = np.array([1.0, -2.0, 3.0, -4.0], "float32")
    model.get_layer("norm").gamma.assign(gamma)
    model.get_layer("third").gamma.assign(np.arange(8.0))
    kernels = find_kernels(model)
    scales = following_scales(model, kernels)
    assert set(scales) == {"with/kernel", "depth/kernel"}
    by_path = {kernel.path: kernel for kernel in kernels}
    found = read_scale(by_path["with/kernel"], scales["with/kernel"])
    assert found.shape == (1, 1, 1, 4)
    np.testing.assert_array_equal(found.ravel(), np.abs(gamma))
    found = read_scale(by_path["depth/kernel"], scales["depth/kernel"])
    np.testing.assert_array_equal(found, np.arange(8.0).reshape(1, 1, 4, 2))
    with pytest.warns(UserWarning, match="branching/kernel, unscaled/kernel"):
        kept = with_scale_only(kernels, scales)
    assert [kernel.path for kernel in kept] == ["with/kernel", "depth/kernel"]
    with pytest.raises(SqueezeError, match="Received: unscaled/kernel"):
        with_scale_only([by_path["unscaled/kernel"]], scales)


def test_slots_are_found_behind_wrapping_optimizers():
    variable = keras.Variable(np.ones((2, 2)), name="kernel")
    adam = keras.optimizers.Adam(use_ema=True)
    outer = keras.optimizers.LossScaleOptimizer(adam)
    outer.build([variable])
    assert list(inner_optimizers(outer)) == [adam]
    assert list(inner_optimizers(None)) == []
    names = {slot.name.split("_")[-1] for slot in find_slots(outer, variable)}
    assert names == {"momentum", "velocity"}
    assert find_average(outer, variable).name.endswith("average")
    assert find_average(adam, keras.Variable(1.0)) is None
    assert not mixes_rows(outer)
    assert mixes_rows(keras.optimizers.Muon())


def test_splicing_keeps_what_the_optimizer_would_have_done():
    model = dense_model()
    (kernel,) = find_kernels(model)
    mask = KernelMask(kernel, keeps_pruned_weights=True)
    assert isinstance(mask._constraint, SplicingMask)
    mask.attach()
    full = to_numpy(kernel.variable).copy()
    keep = full > 0
    mask.assign(keep, full)
    optimizer = keras.optimizers.SGD(0.1)
    for gradient in gradients_of(4):
        apply_one(optimizer, kernel.variable, gradient)
        full -= np.float32(0.1) * gradient
        weights = mask.weights()
        assert not np.any(weights[~keep])
        np.testing.assert_allclose(mask.full_weights(weights), full, rtol=1e-5)
    mask.assign(~keep, mask.full_weights(mask.weights()))
    np.testing.assert_allclose(mask.weights(), np.where(~keep, full, 0), 1e-5)
    mask.detach()
    assert kernel.variable.constraint is None


def test_the_average_is_masked_in_the_step():
    model = dense_model()
    (kernel,) = find_kernels(model)
    optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    mask = KernelMask(kernel, optimizer=optimizer)
    mask.attach()
    keep = to_numpy(kernel.variable) > 0
    mask.assign(keep, mask.weights())
    for gradient in gradients_of(2):
        apply_one(optimizer, kernel.variable, gradient)
    average = to_numpy(find_average(optimizer, kernel.variable))
    np.testing.assert_array_equal(average != 0, keep)


def test_a_step_that_is_not_near_is_not_read():
    class Optimizer:
        reads = 0
        steps = 0

        @property
        def iterations(self):
            Optimizer.reads += 1
            return Optimizer.steps

    counter = StepCounter(Optimizer())
    for batch in range(1, 101):
        Optimizer.steps = batch
        counter.advance(1, [], until=100)
    assert counter.step == 100
    assert Optimizer.reads < 12
    Optimizer.steps = 105
    counter.advance(5, [], until=None)
    assert counter.step == 100
    assert counter.read([]) == 105


class Asking(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        warn_of_savers_before(self)


def test_callbacks_that_save_before_are_named(tmp_path, recwarn):
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "m.keras")
    asking = Asking()
    keras.callbacks.CallbackList([asking, checkpoint]).on_train_begin()
    asking.on_train_begin()
    assert not recwarn.list
    wrong = keras.callbacks.CallbackList([checkpoint, asking])
    with pytest.warns(UserWarning, match="before ModelCheckpoint"):
        wrong.on_train_begin()


def test_other_backends_are_refused_where_the_step_gathers(monkeypatch):
    model = dense_model()
    optimizer = keras.optimizers.SGD()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(SqueezeError, match=r"TensorFlow.*backend='jax'$"):
        Pruner(model, 0.5, "taylor", optimizer=optimizer).begin()
    with pytest.raises(SqueezeError, match=r"Splicing\(\), backend='jax'$"):
        Pruner(model, 0.5, regrowth="splicing").begin()
    assert model.layers[0].kernel.constraint is None
