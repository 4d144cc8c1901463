import dataclasses

import numpy as np
import pytest

from keras_squeeze import quantizers
from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.quantizers.gram_matrix import damped_gram
from keras_squeeze.quantizers.kernel_matrix import KernelMatrix
from keras_squeeze.quantizers.reconstruction import quantize_reconstructing
from keras_squeeze.quantizers.reconstruction_candidate import column_channels
from keras_squeeze.quantizers.reconstruction_problem import (
    ReconstructionProblem,
)

INPUTS, OUTPUTS = 40, 12
KINDS = [
    ("absmax", 4),
    ("absmax", 1),
    ("mse", 8),
    ("mse", 3),
    ("mse", 2),
    ("affine", 3),
    ("affine", 1),
    ("ternary", 2),
    ("binary", 1),
    ("power_of_two", 4),
    ("nf4", 4),
    ("float8_e4m3", 8),
    ("kmeans", 3),
]


def correlated_gram(rng, inputs=INPUTS, groups=None, samples=400):
    shape = (groups or 1, samples, inputs)
    mixing = rng.normal(size=(inputs, inputs))
    mixing *= np.exp(-np.arange(inputs) / (inputs / 4))[:, None]
    x = rng.normal(size=shape) @ mixing
    gram = x.swapaxes(1, 2) @ x / samples
    return gram if groups else gram[0]


def errors(kernel, tensor, gram, view=None):
    """Squared output errors of each column of each group."""
    view = view or KernelMatrix.flat(kernel.shape)
    error = view.to_matrix(tensor.dequantize() - kernel).astype("float64")
    stack = gram if gram.ndim == 3 else gram[None]
    return np.einsum("gio,gij,gjo->go", error, stack, error)


@pytest.fixture
def kernel(rng):
    values = rng.normal(size=(INPUTS, OUTPUTS)).astype("float32")
    values[rng.random(values.shape) < 0.2] = 0
    return values


def made(name, bits, **kwargs):
    if name in ("nf4", "float8_e4m3"):
        return quantizers.get(name, **kwargs)
    return quantizers.get(name, bits=bits, **kwargs)


TENSOR = {"granularity": "per_tensor"}
GROUP = {"granularity": "per_group", "group_size": 16}


@pytest.mark.parametrize(
    ("kind", "granularity"),
    [
        *[(kind, {}) for kind in KINDS],
        *[(("mse", 3), TENSOR), (("affine", 3), TENSOR), (("nf4", 4), TENSOR)],
        *[(("mse", 2), GROUP), (("affine", 3), GROUP), (("nf4", 4), GROUP)],
    ],
)
def test_outputs_are_kept_better_than_by_rounding(
    kind, granularity, kernel, rng
):
    gram, quantizer = correlated_gram(rng), made(*kind, **granularity)
    plain = quantizer.encode(kernel, -1)
    found = quantize_reconstructing(kernel, gram, quantizer, -1)
    before, after = errors(kernel, plain, gram), errors(kernel, found, gram)
    assert after.sum() < 0.6 * before.sum()
    if plain.axis and not quantizer.learns_codebook:
        assert (after <= before * (1 + 1e-9)).all()
    same = (found.bits, found.axis, found.group_size, found.scale.shape)
    assert same == (plain.bits, plain.axis, plain.group_size, plain.scale.shape)
    assert found.codes.dtype == plain.codes.dtype
    zeros = (kernel == 0) & (plain.dequantize() == 0)
    assert (found.dequantize()[zeros] == 0).all()


@pytest.mark.parametrize("name", ["mse", "affine", "nf4"])
def test_scales_keep_eight_significant_bits(name, kernel, rng):
    quantizer = made(name, 4)
    found = quantize_reconstructing(kernel, correlated_gram(rng), quantizer)
    low = found.scale.view(np.uint32) & 0xFFFF
    assert not low.any()


def test_codes_stay_within_their_bits(kernel, rng):
    gram = correlated_gram(rng)
    for name, low, high in (("mse", -3, 3), ("affine", -4, 3)):
        found = quantize_reconstructing(kernel, gram, made(name, 3))
        assert low <= found.codes.min()
        assert found.codes.max() <= high


def grouped(rng, groups=6, inputs=9, outputs=2):
    """A depthwise kernel, how it is matrices, and what it meets."""
    shape = (inputs, groups, outputs)
    view = KernelMatrix(shape, shape, (1, 0, 2), groups, inputs, outputs)
    kernel = rng.normal(size=shape).astype("float32")
    return kernel, view, correlated_gram(rng, inputs, groups)


@pytest.mark.parametrize("order", ["activation", "natural"])
def test_groups_are_quantized_as_each_by_itself(order, rng):
    kernel, view, gram = grouped(rng)
    quantizer = made("mse", 3)
    together = quantize_reconstructing(
        kernel, gram, quantizer, (1, 2), view, order=order
    )
    for group in range(view.groups):
        alone = quantize_reconstructing(
            kernel[:, group], gram[group], quantizer, order=order
        )
        np.testing.assert_array_equal(together.codes[:, group], alone.codes)


def test_a_kernel_of_other_layout_is_quantized_like_the_matrix(kernel, rng):
    gram, quantizer = correlated_gram(rng), made("mse", 4)
    turned = np.ascontiguousarray(kernel.T)
    shape = turned.shape
    view = KernelMatrix(shape, shape, (1, 0), 1, INPUTS, OUTPUTS)
    found = quantize_reconstructing(turned, gram, quantizer, 0, view)
    expected = quantize_reconstructing(kernel, gram, quantizer)
    np.testing.assert_array_equal(found.codes.T, expected.codes)


def test_channels_along_the_inputs_are_no_obstacle(kernel, rng):
    gram, quantizer = correlated_gram(rng), made("mse", 3)
    plain = quantizer.encode(kernel, 0)
    assert column_channels(plain, KernelMatrix.flat(kernel.shape)) is None
    found = quantize_reconstructing(kernel, gram, quantizer, 0)
    after = errors(kernel, found, gram).sum()
    assert after < 0.6 * errors(kernel, plain, gram).sum()


def test_inputs_that_are_always_zero_are_rounded(kernel, rng):
    gram = correlated_gram(rng)
    dead = [3, 20, INPUTS - 1]
    gram[dead] = gram[:, dead] = 0
    quantizer = made("absmax", 4)
    found = quantize_reconstructing(
        kernel, gram, quantizer, scale_factors=(1.0,), passes=0
    )
    plain = quantizer.encode(kernel, -1)
    np.testing.assert_array_equal(found.codes[dead], plain.codes[dead])
    assert (found.codes != plain.codes).any()
    nothing = quantize_reconstructing(kernel, 0 * gram, quantizer)
    np.testing.assert_array_equal(nothing.codes, plain.codes)


def test_nothing_is_gained_where_no_input_is_like_another(kernel):
    gram, quantizer = np.diag(np.arange(1.0, INPUTS + 1)), made("mse", 4)
    plain = quantizer.encode(kernel, -1)
    found = quantize_reconstructing(
        kernel, gram, quantizer, scale_factors=(1.0,), passes=0
    )
    same_scale = (found.scale == plain.scale).ravel()
    assert same_scale.any()
    np.testing.assert_array_equal(
        found.codes[:, same_scale], plain.codes[:, same_scale]
    )


def test_no_choice_of_a_code_raises_the_error(kernel, rng):
    gram, quantizer = correlated_gram(rng)[None], made("absmax", 3)
    order = np.argsort(-np.einsum("gii->gi", gram), axis=1)
    view = KernelMatrix.flat(kernel.shape)
    problem = ReconstructionProblem(kernel, gram, view, order, 0.01, "")
    damped, tensor = damped_gram(gram, 0.01), quantizer.encode(kernel, -1)
    found = [errors(kernel, tensor, damped)]
    for _ in range(6):
        tensor = problem.descended(tensor, quantizer, 1)
        found.append(errors(kernel, tensor, damped))
        assert (found[-1] <= found[-2] * (1 + 1e-12)).all()
    assert found[-1].sum() < 0.7 * found[0].sum()
    settled = problem.descended(tensor, quantizer, 50)
    again = problem.descended(settled, quantizer, 1)
    np.testing.assert_array_equal(again.codes, settled.codes)


def test_each_step_lowers_the_error(kernel, rng):
    gram, quantizer = correlated_gram(rng), made("mse", 2)
    totals = []
    for factors, passes in (((1.0,), 0), ((1.0,), 2), ((1.0, 0.9, 1.1), 2)):
        found = quantize_reconstructing(
            kernel, gram, quantizer, scale_factors=factors, passes=passes
        )
        totals.append(errors(kernel, found, gram).sum())
    assert totals[0] > totals[1] > totals[2]


def test_blocks_of_inputs_do_not_change_the_codes(kernel, rng, monkeypatch):
    gram, quantizer = correlated_gram(rng), made("mse", 4)
    whole = quantize_reconstructing(kernel, gram, quantizer)
    module = "keras_squeeze.quantizers.reconstruction_feedback._BLOCK"
    monkeypatch.setattr(module, 7)
    parts = quantize_reconstructing(kernel, gram, quantizer)
    np.testing.assert_array_equal(parts.codes, whole.codes)


def test_inputs_by_energy_are_taken_in_a_better_order(kernel, rng):
    gram, quantizer = correlated_gram(rng), made("mse", 3)
    gram *= np.outer(*[np.linspace(0.05, 2, INPUTS)] * 2)
    totals = {
        order: errors(
            kernel,
            quantize_reconstructing(
                kernel, gram, quantizer, order=order, passes=0
            ),
            gram,
        ).sum()
        for order in ("activation", "natural")
    }
    assert totals["activation"] < totals["natural"]


def test_kernels_of_no_or_one_weight_are_taken(rng):
    quantizer = made("mse", 4)
    empty = quantize_reconstructing(
        np.zeros((0, 3), "float32"), np.zeros((0, 0)), quantizer
    )
    assert empty.codes.shape == (0, 3)
    one = quantize_reconstructing(
        np.array([[0.3]], "float32"), np.array([[2.0]]), quantizer
    )
    np.testing.assert_allclose(one.dequantize(), [[0.3]], rtol=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gram": np.eye(3)}, r"of shape \(1, 40, 40\) for here. Received: "),
        ({"gram": np.ones((2, INPUTS, INPUTS))}, r"\(1, 40, 40\)"),
        ({"gram": np.full((INPUTS, INPUTS), np.nan)}, "finite Gram"),
        ({"gram": -np.eye(INPUTS)}, "no negative squares"),
        ({"gram": 9 - 8 * np.eye(INPUTS)}, "positive semidefinite"),
        ({"order": "random"}, "'random'"),
        ({"damping": 0.0}, "damping=0.0"),
        ({"passes": -1}, "passes=-1"),
        ({"scale_factors": (1.0, 0.0)}, "scale_factors"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, kernel):
    given = {"gram": np.eye(INPUTS), "name": "here", **arguments}
    with pytest.raises(SqueezeError, match=message):
        quantize_reconstructing(kernel, quantizer=made("mse", 4), **given)


def test_a_kernel_that_is_not_finite_is_refused(kernel):
    kernel[2, 3] = np.inf
    with pytest.raises(NonFiniteError, match="dense/kernel"):
        quantize_reconstructing(
            kernel, np.eye(INPUTS), made("mse", 4), name="dense/kernel"
        )


def test_the_best_factor_of_a_scale_is_that_of_least_squares(kernel, rng):
    gram, quantizer = correlated_gram(rng)[None], made("absmax", 3)
    order = np.arange(INPUTS)[None]
    view = KernelMatrix.flat(kernel.shape)
    problem = ReconstructionProblem(kernel, gram, view, order, 0.01, "")
    tensor = quantizer.encode(kernel, -1)
    factors = problem.scale_factors(tensor)
    best = problem.candidate(_times(tensor, factors)).errors
    for wrong in (0.98, 1.02):
        other = problem.candidate(_times(tensor, wrong * factors)).errors
        assert (best < other).all()


def _times(tensor, factors):
    scale = (tensor.scale * factors[:, None]).astype("float32")
    return dataclasses.replace(tensor, scale=scale)
