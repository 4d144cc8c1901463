"""Kernels as products: exact at full rank, as the spectrum says below."""

import ml_dtypes
import numpy as np
import pytest

from keras_squeeze.errors import (
    NonFiniteError,
    SqueezeError,
    UnknownIdentifierError,
)
from keras_squeeze.low_rank import (
    CP,
    SVD,
    ChannelSVD,
    SpatialSVD,
    Tucker2,
    decompositions,
)
from keras_squeeze.low_rank.alternating import alternating_least_squares
from keras_squeeze.testing import check_decomposition

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(24, 16))
CONV1D = RNG.normal(size=(5, 8, 12))
CONV2D = RNG.normal(size=(3, 4, 8, 12))
CONV3D = RNG.normal(size=(3, 2, 3, 4, 6))
MATRICES = [
    (SVD(), DENSE),
    (ChannelSVD(), CONV1D),
    (ChannelSVD(), CONV2D),
    (ChannelSVD(), CONV3D),
    (SpatialSVD(), CONV2D),
    (SpatialSVD(), CONV3D),
]
ALL = [
    *MATRICES,
    (Tucker2(), CONV1D),
    (Tucker2(), CONV2D),
    (Tucker2(), CONV3D),
    (CP(), CONV1D),
    (CP(), CONV2D),
]


def named(pair):
    return f"{pair[0].name}-{pair[1].ndim}"


def relative(found, wanted):
    wanted = wanted.astype(np.float64)
    error = np.linalg.norm(found.astype(np.float64) - wanted)
    return error / np.linalg.norm(wanted)


@pytest.mark.parametrize("name", list(decompositions.registry))
def test_every_decomposition_keeps_the_contract(name):
    check_decomposition(decompositions.get(name))


@pytest.mark.parametrize(
    "shape", [(1, 7), (7, 1), (1, 3, 5, 4), (3, 1, 1, 5), (2, 2, 5, 1)], ids=str
)
def test_single_rows_columns_and_channels_keep_the_contract(shape):
    for name in decompositions.registry:
        decomposition = decompositions.get(name)
        if decomposition.reason_not_applicable(shape) is None:
            check_decomposition(decomposition, [shape])


@pytest.mark.parametrize("pair", MATRICES, ids=named)
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_error_is_that_of_the_truncated_spectrum(pair, rank):
    decomposition, kernel = pair
    (values,) = decomposition.spectra(kernel)
    factors = decomposition.decompose(kernel, rank)
    error = np.linalg.norm(decomposition.compose(factors) - kernel)
    assert error == pytest.approx(np.sqrt(np.square(values[rank:]).sum()))


@pytest.mark.parametrize("pair", MATRICES, ids=named)
def test_singular_values_split_evenly_between_the_factors(pair):
    decomposition, kernel = pair
    (values,) = decomposition.spectra(kernel)
    first, last = decomposition.decompose(kernel, 3)
    left = first.reshape(-1, 3)
    right = np.moveaxis(last, -2, 0).reshape(3, -1)
    np.testing.assert_allclose(left.T @ left, np.diag(values[:3]), atol=1e-9)
    np.testing.assert_allclose(right @ right.T, np.diag(values[:3]), atol=1e-9)


def test_spatial_factors_convolve_like_the_kernel_they_stand_for():
    (first, last) = SpatialSVD().decompose(CONV2D, 5)
    product = np.einsum("hiu,wuo->hwio", first[:, 0], last[0])
    np.testing.assert_allclose(SpatialSVD().compose((first, last)), product)


def test_tucker_error_is_within_the_bound_and_below_plain_truncation():
    ranks = (4, 5)
    spectra = Tucker2().spectra(CONV2D)
    factors = Tucker2().decompose(CONV2D, ranks)
    error = np.linalg.norm(Tucker2().compose(factors) - CONV2D)
    tails = [
        np.square(values[rank:]).sum()
        for values, rank in zip(spectra, ranks, strict=True)
    ]
    assert np.sqrt(max(tails)) <= error <= np.sqrt(sum(tails))
    flat = CONV2D.reshape(12, 8, 12)
    bases = [
        np.linalg.svd(np.moveaxis(flat, axis, 0).reshape(n, -1))[0][:, :rank]
        for axis, n, rank in ((1, 8, 4), (2, 12, 5))
    ]
    left, right = (basis @ basis.T for basis in bases)
    assert error < np.linalg.norm(left @ flat @ right - flat)


def test_tucker_factors_weigh_the_same_on_either_side_of_a_channel():
    first, core, last = Tucker2().decompose(CONV2D, (4, 5))
    square = np.square(core)
    np.testing.assert_allclose(
        np.square(first).sum((0, 1, 2)), square.sum((0, 1, 3))
    )
    np.testing.assert_allclose(
        np.square(last).sum((0, 1, 3)), square.sum((0, 1, 2))
    )


def test_tucker_takes_ranks_that_exceed_what_the_other_leaves():
    kernel = RNG.normal(size=(3, 20, 24))
    factors = Tucker2().decompose(kernel, (20, 2))
    _, values = Tucker2().spectra(kernel)
    error = np.linalg.norm(Tucker2().compose(factors) - kernel)
    assert error == pytest.approx(np.linalg.norm(values[2:]), rel=1e-3)


@pytest.mark.parametrize("kernel", [CONV1D, CONV2D], ids=["1D", "2D"])
def test_cp_improves_on_its_start_and_finds_what_there_is(kernel):
    (values,) = CP().spectra(kernel)
    found = CP().compose(CP().decompose(kernel, 10))
    assert np.linalg.norm(found - kernel) < 0.98 * np.linalg.norm(values[10:])
    two = CP().compose(CP().decompose(kernel, 2))
    again = CP().compose(CP().decompose(two, 2))
    assert relative(again, two) < 0.02


def test_cp_terms_have_one_norm_in_all_three_factors():
    factors = CP().decompose(CONV2D, 6)
    pairs = zip(factors, (-1, -2, -2), strict=True)
    flat = [
        np.moveaxis(factor, axis, 0).reshape(6, -1) for factor, axis in pairs
    ]
    norms = [np.linalg.norm(each, axis=1) for each in flat]
    np.testing.assert_allclose(norms[0], norms[1])
    np.testing.assert_allclose(norms[1], norms[2])


def test_alternating_steps_never_raise_the_error():
    tensor = CONV1D
    factors = tuple(RNG.normal(size=(n, 6)) for n in tensor.shape)
    errors = []
    for _ in range(3):
        product = np.einsum("ar,br,cr->abc", *factors)
        errors.append(np.linalg.norm(product - tensor))
        factors = alternating_least_squares(tensor, factors)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("pair", ALL, ids=named)
def test_zero_and_rank_deficient_kernels_come_back(pair):
    decomposition, kernel = pair
    ranks = decomposition.max_ranks(kernel.shape)
    deficient = np.zeros_like(kernel)
    deficient[..., :2] = kernel[..., :1]
    for each in (np.zeros_like(kernel), deficient, 1e-30 * kernel):
        for dtype in (np.float32, np.float64):
            cast = each.astype(dtype)
            factors = decomposition.decompose(cast, ranks)
            assert all(np.isfinite(factor).all() for factor in factors)
            product = decomposition.compose(factors)
            scale = 1e-5 * np.abs(cast).max()
            np.testing.assert_allclose(product, cast, rtol=0, atol=scale)
            half = [(rank + 1) // 2 for rank in ranks]
            lower, _ = decomposition.retruncate(factors, half)
            assert all(np.isfinite(factor).all() for factor in lower)


@pytest.mark.parametrize("pair", ALL, ids=named)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_kernels_give_factors_of_their_dtype(pair, dtype):
    decomposition, kernel = pair
    cast = kernel.astype(dtype)
    factors = decomposition.decompose(cast, decomposition.max_ranks(cast.shape))
    assert {factor.dtype for factor in factors} == {np.dtype(dtype)}
    product = decomposition.compose(factors)
    assert product.dtype == dtype
    assert relative(product, cast) < (3e-3 if dtype == np.float16 else 2e-2)


def test_multiply_adds_count_the_positions_before_a_stride():
    shape, strides = (3, 5, 8, 12), (2, 3)
    assert SVD().macs((24, 16), 4) == 4 * 40
    assert ChannelSVD().macs(shape, 4, strides) == 15 * 8 * 4 + 4 * 12
    assert SpatialSVD().macs(shape, 4, strides) == 3 * (3 * 8 * 4) + 5 * 4 * 12
    deep = (3, 2, 5, 8, 12)
    found = SpatialSVD().macs(deep, 4, (2, 3, 5))
    assert found == 15 * (3 * 8 * 4) + 10 * 4 * 12
    found = Tucker2().macs(shape, (4, 6), strides)
    assert found == 6 * 8 * 4 + 15 * 4 * 6 + 6 * 12
    assert CP().macs(shape, 4, (2, 2)) == 4 * 8 * 4 + 15 * 4 + 4 * 12


@pytest.mark.parametrize(
    ("decomposition", "shape", "reason"),
    [
        (SVD(), (3, 3, 4, 4), "4 axes"),
        (ChannelSVD(), (4, 4), "2 axes"),
        (SpatialSVD(), (3, 4, 4), "2D or 3D"),
        (SpatialSVD(), (1, 1, 4, 4), "one position"),
        (Tucker2(), (1, 4, 4), "one position"),
        (CP(), (3, 3, 3, 4, 4), "1D or 2D"),
    ],
    ids=repr,
)
def test_shapes_that_do_not_fit_are_refused_with_the_reason(
    decomposition, shape, reason
):
    assert reason in decomposition.reason_not_applicable(shape)
    with pytest.raises(SqueezeError, match=rf"{reason}.*Received: shape"):
        decomposition.decompose(np.ones(shape), 1)


def test_cp_refuses_strides_and_dilations_of_no_depthwise_layer():
    shape = (3, 3, 4, 4)
    assert CP().reason_not_applicable(shape, (2, 2)) is None
    assert CP().reason_not_applicable(shape, (1, 1), (2, 2)) is None
    assert "equal strides" in CP().reason_not_applicable(shape, (2, 1))
    found = CP().reason_not_applicable(shape, (2, 2), (2, 2))
    assert "dilations" in found


@pytest.mark.parametrize("ranks", [0, -1, 17, 2.0, (3, 4), (), "4", None])
def test_ranks_that_cannot_be_had_are_refused(ranks):
    with pytest.raises(SqueezeError, match=r"rank.*Received: "):
        SVD().decompose(DENSE, ranks)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_kernels_that_are_not_finite_are_refused(bad):
    kernel = DENSE.copy()
    kernel[3, 4] = bad
    for call in (SVD().spectra, lambda k: SVD().decompose(k, 2)):
        with pytest.raises(NonFiniteError, match="Received: 1 of 384"):
            call(kernel)


def test_kernels_that_are_not_floating_point_are_refused():
    with pytest.raises(SqueezeError, match="Received: dtype int64"):
        SVD().spectra(np.ones((3, 4), np.int64))


def test_factors_that_do_not_fit_are_refused():
    first, last = SVD().decompose(DENSE, 3)
    for wrong in (
        (first,),
        (first, last[:2]),
        (last, first),
        (first, DENSE[0]),
    ):
        with pytest.raises(SqueezeError, match="Received: shapes"):
            SVD().compose(wrong)
    with pytest.raises(SqueezeError, match=r"\(24, 16\). Received: shape"):
        SVD().project(DENSE.T, (first, last))
    with pytest.raises(SqueezeError, match=r"at most \(3,\).*Received: \(4,\)"):
        SVD().retruncate((first, last), 4)


def test_get_takes_names_configs_and_objects():
    for name in ("SpatialSVD", "spatial_svd"):
        assert decompositions.get(name) == SpatialSVD()
    for name in decompositions.registry:
        found = decompositions.get(name)
        assert found.name == name
        config = decompositions.serialize(found)
        assert decompositions.get(config) == found
        assert decompositions.get(found) is found
    with pytest.raises(UnknownIdentifierError, match="Received: 'qr'"):
        decompositions.get("qr")
    with pytest.raises(SqueezeError, match="Received: 3"):
        decompositions.get(3)
