"""The estimate of coded bytes, the loss made of it, and its controller."""

import keras
import numpy as np
import pytest

from keras_squeeze.quantizers import QuantizedTensor
from keras_squeeze.rate.estimate import TENSOR_BITS, estimated_bits
from keras_squeeze.rate.measuring import codes_bytes, measure_file
from keras_squeeze.rate.penalty import CodedSizePenalty, soft_bits
from keras_squeeze.rate.weight_controller import WeightController


def kernel_codes(shape, share, largest, seed=0):
    """Codes whose channels and inputs differ in density, as trained ones."""
    rng = np.random.default_rng(seed)
    values = rng.laplace(size=shape) * rng.gamma(1.0, 1.0, shape[-1])
    if len(shape) > 1:
        values *= rng.gamma(1.0, 1.0, shape[-2])[:, None]
    threshold = np.quantile(np.abs(values), 1 - share)
    codes = np.round(values / threshold * 0.5001)
    return np.clip(codes, -largest, largest).astype("int8")


def tensor_of(codes):
    return QuantizedTensor(codes, np.ones((1, 1), "float32"), 8)


@pytest.mark.parametrize(
    ("shape", "share", "largest"),
    [
        ((196, 100), 0.02, 3),
        ((196, 100), 0.1, 7),
        ((300, 20), 0.3, 7),
        ((5, 5, 10, 20), 0.2, 5),
        ((3, 3, 16, 32), 0.05, 2),
        ((3, 3, 64, 1), 0.5, 7),
    ],
)
def test_estimate_is_near_the_coder(shape, share, largest):
    codes = kernel_codes(shape, share, largest)
    coded = codes_bytes([tensor_of(codes)])
    assert estimated_bits(codes) / 8 == pytest.approx(coded, rel=0.15)


def test_empty_kernels_cost_nothing():
    assert estimated_bits(np.zeros((30, 4), "int8")) == 0


def test_full_rows_are_cheaper_than_scattered_weights():
    rng = np.random.default_rng(0)
    scattered = np.zeros((40, 40), "int8")
    scattered.flat[rng.choice(1600, 80, replace=False)] = 1
    rows = np.zeros((40, 40), "int8")
    rows[[3, 17]] = 1
    assert estimated_bits(rows) < 0.6 * estimated_bits(scattered)


def gradient(levels):
    import tensorflow as tf

    levels = tf.constant(levels, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(levels)
        bits = soft_bits(levels)
    return float(bits), tape.gradient(bits, levels).numpy()


needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="takes its gradients"
)


@needs_tensorflow
def test_weights_are_drawn_to_zero_and_most_where_it_is_empty():
    levels = np.full((30, 20), 0.2)
    levels[10, 0] = -0.3
    levels[:10] = 0.8
    _, slopes = gradient(levels)
    assert slopes[10, 0] == -slopes[10, 1]
    assert 0 < slopes[:10].mean() < slopes[11:].mean()


@needs_tensorflow
def test_large_weights_pay_for_the_next_level_only():
    levels = np.full((30, 20), 0.2)
    levels[:3] = np.arange(20) % 4 + 0.8
    _, slopes = gradient(levels)
    beyond = slopes[:3][levels[:3] > 1]
    assert 0 < beyond.max() < slopes[3:].min()


@needs_tensorflow
def test_penalty_grows_evenly_between_levels():
    rng = np.random.default_rng(1)
    levels = rng.integers(-2, 3, (12, 8)) * (rng.random((12, 8)) < 0.4)
    levels = levels.astype("float32")
    at = [gradient(np.where(levels == 0, x, levels))[0] for x in (0, 0.2, 0.4)]
    assert at[1] - at[0] > 1
    assert at[2] - at[1] == pytest.approx(at[1] - at[0], rel=1e-4)


@pytest.mark.parametrize("shape", [(12, 1), (4, 4), (3, 3, 5, 1), (2, 3, 4, 5)])
def test_penalty_takes_kernels_of_every_shape(shape):
    assert np.isfinite(float(soft_bits(np.zeros(shape, "float32"))))
    codes = kernel_codes(shape, 0.5, 3)
    bits = float(soft_bits(codes.astype("float32")))
    assert 0.3 < bits / (estimated_bits(codes) - TENSOR_BITS) < 1.3


def test_penalty_multiplies_bits_of_the_kernel_on_its_grid():
    weight = keras.Variable(0.5, trainable=False)
    kernel = kernel_codes((20, 10), 0.2, 3).astype("float32")
    penalty = CodedSizePenalty(lambda x: x / 0.25, weight)
    expected = 0.5 * float(soft_bits(kernel * 2 / 0.25))
    assert float(penalty(kernel * 2)) == pytest.approx(expected)
    weight.assign(0.0)
    assert float(penalty(kernel)) == 0


def plant(weight, size, gain, fixed):
    """A model that shrinks slowly as the weight grows."""
    settled = fixed + 5_000 * (weight / 0.1) ** -gain
    return size + 0.2 * (settled - size)


@pytest.mark.parametrize("gain", [0.4, 0.8])
@pytest.mark.parametrize("target", [6_000, 12_000])
def test_controller_reaches_the_target(gain, target):
    controller, size = WeightController(target, 0.05), 20_000.0
    for step in range(400):
        weight = controller.update(size, step / 400)
        size = plant(weight, size, gain, fixed=2_000)
    assert 0.92 * target < size <= 1.05 * target


def test_controller_goes_on_from_its_state():
    whole, size = WeightController(1_000, 0.1), 9_000.0
    for step in range(10):
        whole.update(size * 0.9**step, step / 20)
    state = (whole.integral, whole.share, whole.first_bytes)
    resumed = WeightController(1_000, 0.1, *state)
    assert resumed.update(2_000, 0.6) == whole.update(2_000, 0.6)


def test_weight_stays_finite_when_the_target_cannot_be_met():
    controller = WeightController(10, 0.1)
    for step in range(100):
        weight = controller.update(1e6, step / 100)
    assert np.isfinite(weight)


def test_measured_file_is_the_file(tmp_path):
    import keras_squeeze as ks

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((60,)), keras.layers.Dense(40), keras.layers.Dense(5)]
    )
    model.layers[0].bias.assign(np.random.default_rng(0).normal(size=40))
    tensors = {}
    for layer in model.layers:
        codes = kernel_codes(layer.kernel.shape, 0.1, 3)
        tensors[id(layer.kernel)] = tensor_of(codes)
        layer.kernel.assign(codes)
    measured = measure_file(model, tensors)
    ks.export(model, tmp_path / "model.h5", bits=8, quantizer="absmax")
    size = (tmp_path / "model.h5").stat().st_size
    found = measured.rest_bytes + measured.codes_bytes
    assert found == pytest.approx(size, rel=0.1)
