import numpy as np
import pytest

from keras_squeeze.codecs.kernel_geometry import geometry_of, to_canonical
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers import (
    RateDistortionQuantizer,
    estimate_bytes,
    output_error,
    quantize_output_aware,
)
from keras_squeeze.quantizers.gram_matrix import GramMatrix
from keras_squeeze.quantizers.trellis_chains import follow_machine


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def correlated_inputs(samples, size, seed=1):
    """Inputs as a hidden layer sees them: alike, and not equally strong."""
    hidden = normal(samples, size // 2, seed=seed)
    mixed = hidden @ normal(size // 2, size, seed=seed + 1)
    mixed += 0.5 * normal(samples, size, seed=seed + 2)
    return np.maximum(mixed, 0) * np.geomspace(0.2, 2, size)


@pytest.fixture(scope="module")
def layer():
    inputs = correlated_inputs(2000, 96)
    return normal(96, 64) * 0.1, inputs.T @ inputs


@pytest.mark.parametrize("step", [0.05, 0.1, 0.2])
def test_less_output_error_in_fewer_bits(layer, step):
    kernel, gram = layer
    plain = RateDistortionQuantizer(step=step).encode(kernel)
    ours = quantize_output_aware(kernel, gram, 1.1 * step)
    assert estimate_bytes(ours) < estimate_bytes(plain)
    assert output_error(kernel, ours, gram) < 0.7 * output_error(
        kernel, plain, gram
    )


def test_the_gain_in_bits_is_large(layer):
    kernel, gram = layer
    plain = RateDistortionQuantizer(step=0.1).encode(kernel)
    wanted = output_error(kernel, plain, gram)
    steps = [0.1 * 2 ** (i / 4) for i in range(9)]
    tensors = [quantize_output_aware(kernel, gram, step) for step in steps]
    good = [t for t in tensors if output_error(kernel, t, gram) <= wanted]
    assert min(map(estimate_bytes, good)) < 0.85 * estimate_bytes(plain)


@pytest.mark.parametrize("states", [8, 128])
def test_a_trellis_gains_on_top(layer, states):
    kernel, gram = layer
    scalar = quantize_output_aware(kernel, gram, 0.1)
    ours = quantize_output_aware(kernel, gram, 0.05, states=states)
    # 6.02 dB a bit: the gain at the same size.
    bits = 8 * (estimate_bytes(ours) - estimate_bytes(scalar)) / kernel.size
    ratio = output_error(kernel, scalar, gram)
    ratio /= output_error(kernel, ours, gram)
    assert 10 * np.log10(ratio) - 6.02 * bits > 0.5


@pytest.mark.parametrize("shape", [(96, 64), (3, 3, 8, 20), (5, 4, 6), (40, 1)])
def test_codes_of_the_trellis_obey_the_machine(shape):
    kernel = normal(*shape)
    inputs = correlated_inputs(300, kernel[..., 0].size)
    tensor = quantize_output_aware(kernel, inputs.T @ inputs, 0.3, states=8)
    geometry = geometry_of(shape, tensor.trellis.geometry)
    codes = to_canonical(tensor.codes, geometry).astype(np.int32)
    grids = follow_machine(codes, tensor.trellis)
    assert np.array_equal(grids[codes != 0], codes[codes != 0] & 1)


def test_output_error_is_that_of_the_outputs():
    inputs, kernel = correlated_inputs(50, 8), normal(8, 5)
    tensor = RateDistortionQuantizer(step=0.7).encode(kernel)
    exact = inputs @ kernel
    wrong = inputs @ tensor.dequantize().astype(np.float64) - exact
    expected = np.square(wrong).sum() / np.square(exact).sum()
    found = output_error(kernel, tensor, inputs.T @ inputs)
    assert found == pytest.approx(expected)
    assert output_error(kernel * 0, tensor, inputs.T @ inputs) == 0


def test_corrections_are_the_best_ones():
    inputs = correlated_inputs(300, 12)
    gram = inputs.T @ inputs
    matrix = GramMatrix(gram).corrections(np.arange(len(gram)), 1e-9)
    first, rest = inputs[:, 0], inputs[:, 1:]
    # An error of 1 in the first input, made up for by all others.
    best = np.linalg.lstsq(rest, -first, rcond=None)[0]
    assert np.allclose(-matrix[0, 1:] / matrix[0, 0], -best, atol=1e-5)
    left = np.square(first + rest @ best).sum()
    assert matrix[0, 0] ** -2 == pytest.approx(left, rel=1e-5)
    assert np.allclose(matrix, np.triu(matrix))


def test_independent_equal_inputs_change_nothing():
    kernel = normal(40, 30) * 0.3
    plain = RateDistortionQuantizer(step=0.2).encode(kernel)
    ours = quantize_output_aware(kernel, 5 * np.eye(40), 0.2)
    assert np.array_equal(ours.codes, plain.codes)
    assert np.array_equal(ours.scale, plain.scale)


def test_convolution_kernels_are_flattened_as_patches_are():
    kernel = normal(3, 3, 4, 16) * 0.3
    inputs = correlated_inputs(400, 36)
    gram = inputs.T @ inputs
    conv = quantize_output_aware(kernel, gram, 0.2)
    assert conv.shape == kernel.shape
    flat = RateDistortionQuantizer(step=0.2).encode(kernel)
    assert output_error(kernel, conv, gram) < output_error(kernel, flat, gram)


def test_pruned_weights_and_dead_inputs_get_no_code():
    kernel = normal(64, 20)
    kernel[normal(64, 20, seed=5) < 0.3] = 0
    inputs = correlated_inputs(500, 64)
    inputs[:, 7] = 0
    tensor = quantize_output_aware(kernel, inputs.T @ inputs, 0.3)
    assert not tensor.codes[kernel == 0].any()
    assert not tensor.codes[7].any()
    assert tensor.codes[8].any()


@pytest.mark.parametrize("samples", [1, 5])
def test_fewer_samples_than_inputs(samples):
    kernel = normal(30, 10)
    inputs = correlated_inputs(samples, 30)
    tensor = quantize_output_aware(kernel, inputs.T @ inputs, 0.3)
    assert output_error(kernel, tensor, inputs.T @ inputs) < 0.05
    assert np.abs(tensor.dequantize()).max() < 30


@pytest.mark.parametrize(
    ("kernel", "gram"),
    [
        (np.zeros((6, 4)), np.eye(6)),
        (normal(6, 4), np.zeros((6, 6))),
        (normal(1, 1), np.ones((1, 1))),
        (np.zeros((0, 3)), np.zeros((0, 0))),
    ],
)
def test_degenerate_layers(kernel, gram):
    tensor = quantize_output_aware(kernel, gram, 0.01)
    assert tensor.shape == kernel.shape
    assert output_error(kernel, tensor, gram) < 1e-2


def test_more_weight_on_bits_gives_fewer_bits(layer):
    kernel, gram = layer
    sizes = [
        estimate_bytes(quantize_output_aware(kernel, gram, 0.1, weight))
        for weight in (0.0, 1.0, 4.0)
    ]
    assert sizes == sorted(set(sizes), reverse=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"gram": np.eye(5)},
        {"gram": np.full((6, 6), np.nan)},
        {"gram": -np.eye(6)},
        {"gram": np.ones((6, 6)) - 2 * np.eye(6) + 1.5 * np.eye(6)[::-1]},
        {"step": 0.0},
        {"step": np.inf},
        {"rate_weight": -1.0},
        {"damping": 0.0},
        {"states": 3},
    ],
)
def test_bad_arguments(arguments):
    given = {"gram": np.eye(6), "step": 0.1, **arguments}
    with pytest.raises(SqueezeError, match=r"Received: "):
        quantize_output_aware(normal(6, 4), **given)


def test_not_finite_weights_are_named():
    kernel = np.full((6, 4), np.inf)
    with pytest.raises(NonFiniteError, match=r"dense/kernel"):
        quantize_output_aware(kernel, np.eye(6), 0.1, name="dense/kernel")


def test_a_gram_matrix_is_factorized_once_for_an_order():
    inputs = correlated_inputs(300, 100)
    gram = GramMatrix(inputs.T @ inputs)
    order = np.arange(100)
    first = gram.corrections(order, 0.01)
    assert gram.corrections(order, 0.01) is first
    back = gram.corrections(order[::-1], 0.01)
    damped = gram.matrix + 0.01 * gram.matrix.diagonal().mean() * np.eye(100)
    assert np.allclose(first.T @ first @ damped, np.eye(100), atol=1e-6)
    turned = damped[::-1, ::-1]
    assert np.allclose(back.T @ back @ turned, np.eye(100), atol=1e-6)


def test_a_prepared_gram_matrix_gives_the_same_codes():
    inputs = correlated_inputs(300, 24)
    kernel, gram = normal(24, 10), inputs.T @ inputs
    prepared = GramMatrix(gram)
    for states in (None, 8):
        plain = quantize_output_aware(kernel, gram, 0.3, states=states)
        again = quantize_output_aware(kernel, prepared, 0.3, states=states)
        assert np.array_equal(plain.codes, again.codes)
        assert output_error(kernel, plain, gram) == pytest.approx(
            output_error(kernel, plain, prepared)
        )
