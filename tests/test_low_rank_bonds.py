"""Lower ranks in the current factors, and what becomes of moments."""

import numpy as np
import pytest

from keras_squeeze.errors import SqueezeError
from keras_squeeze.low_rank import (
    CP,
    SVD,
    ChannelSVD,
    SpatialSVD,
    Tucker2,
    map_factors,
    map_moments,
)

RNG = np.random.default_rng(0)
DENSE, CONV = RNG.normal(size=(24, 16)), RNG.normal(size=(3, 4, 8, 12))
MATRICES = [(SVD(), DENSE), (ChannelSVD(), CONV), (SpatialSVD(), CONV)]
ALL = [*MATRICES, (Tucker2(), CONV), (CP(), CONV)]


def named(pair):
    return pair[0].name


def trained(decomposition, kernel, share):
    """Factors that no longer are those of a truncation."""
    highest = decomposition.max_ranks(kernel.shape)
    ranks = [max(1, int(share * rank)) for rank in highest]
    factors = decomposition.decompose(kernel, ranks)
    noise = (RNG.normal(size=factor.shape) for factor in factors)
    return tuple(a + 0.3 * b for a, b in zip(factors, noise, strict=True))


@pytest.mark.parametrize("pair", MATRICES, ids=named)
@pytest.mark.parametrize("rank", [1, 3])
def test_retruncated_product_is_the_nearest_of_its_rank(pair, rank):
    decomposition, kernel = pair
    factors = trained(decomposition, kernel, 0.5)
    product = decomposition.compose(factors)
    lower, _ = decomposition.retruncate(factors, rank)
    best = decomposition.compose(decomposition.decompose(product, rank))
    np.testing.assert_allclose(decomposition.compose(lower), best, atol=1e-9)


def test_retruncated_tucker_product_is_within_the_bound():
    factors = trained(Tucker2(), CONV, 0.8)
    product = Tucker2().compose(factors)
    lower, _ = Tucker2().retruncate(factors, (3, 4))
    error = np.linalg.norm(Tucker2().compose(lower) - product)
    best = Tucker2().compose(Tucker2().decompose(product, (3, 4)))
    assert error == pytest.approx(np.linalg.norm(best - product), rel=1e-6)


def test_retruncated_cp_keeps_the_strongest_terms_in_their_order():
    factors = list(trained(CP(), CONV, 0.2))
    factors[1][..., [1, 3], :] *= 50
    lower, bonds = CP().retruncate(factors, 2)
    assert np.array_equal(lower[1], factors[1][..., [1, 3], :])
    assert np.array_equal(lower[0], factors[0][..., [1, 3]])
    assert np.array_equal(lower[2], factors[2][..., [1, 3], :])
    assert np.array_equal(bonds[0][0], bonds[1][0])


@pytest.mark.parametrize("pair", ALL, ids=named)
def test_bonds_take_the_old_factors_to_the_new(pair):
    decomposition, kernel = pair
    factors = trained(decomposition, kernel, 0.6)
    ranks = [(rank + 1) // 2 for rank in decomposition.ranks_of(factors)]
    lower, bonds = decomposition.retruncate(factors, ranks)
    mapped = map_factors(decomposition, factors, bonds)
    for found, wanted in zip(mapped, lower, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-8)
    for p, q in bonds:
        np.testing.assert_allclose(q @ p, np.eye(p.shape[1]), atol=1e-8)


@pytest.mark.parametrize("pair", ALL, ids=named)
def test_projected_moment_is_the_gradient_by_finite_differences(pair):
    decomposition, kernel = pair
    factors = trained(decomposition, kernel, 0.3)
    gradient = RNG.normal(size=kernel.shape)
    found = decomposition.project(gradient, factors)
    for at, factor in enumerate(factors):
        place = tuple(RNG.integers(n) for n in factor.shape)
        losses = []
        for step in (1e-3, -1e-3):
            moved = [each.copy() for each in factors]
            moved[at][place] += step
            losses.append(np.vdot(gradient, decomposition.compose(moved)))
        slope = (losses[0] - losses[1]) / 2e-3
        assert found[at][place] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_projected_squares_are_those_of_independent_gradients():
    factors = SVD().decompose(DENSE, 3)
    draws = RNG.normal(size=(4000, *DENSE.shape)) * np.linspace(0.5, 2, 16)
    found = SVD().project(np.square(draws).mean(0), factors, squared=True)
    first = np.square(draws @ factors[1].T).mean(0)
    np.testing.assert_allclose(found[0], first, rtol=0.2)
    second = np.square(factors[0].T @ draws).mean(0)
    np.testing.assert_allclose(found[1], second, rtol=0.2)


@pytest.mark.parametrize("pair", ALL, ids=named)
@pytest.mark.parametrize("squared", [False, True])
def test_moments_keep_shapes_and_dtypes_through_bonds(pair, squared):
    decomposition, kernel = pair
    factors = trained(decomposition, kernel, 0.4)
    ranks = [(rank + 1) // 2 for rank in decomposition.ranks_of(factors)]
    lower, bonds = decomposition.retruncate(factors, ranks)
    moments = [np.square(f).astype(np.float16) for f in factors]
    found = map_moments(decomposition, moments, bonds, squared)
    assert [m.shape for m in found] == [f.shape for f in lower]
    assert {m.dtype for m in found} == {np.dtype(np.float16)}
    assert not squared or all((m >= 0).all() for m in found)


@pytest.mark.parametrize("pair", [*ALL[:-2], ALL[-1]], ids=named)
def test_mapped_gradients_are_those_of_the_new_factors(pair):
    decomposition, kernel = pair
    factors = trained(decomposition, kernel, 0.4)
    ranks = [(rank + 1) // 2 for rank in decomposition.ranks_of(factors)]
    lower, bonds = decomposition.retruncate(factors, ranks)
    gradient = RNG.normal(size=kernel.shape)
    moments = decomposition.project(gradient, factors)
    found = map_moments(decomposition, moments, bonds)
    wanted = decomposition.project(gradient, lower)
    for each, new in zip(found, wanted, strict=True):
        np.testing.assert_allclose(each, new, atol=1e-8)


def test_mapped_gradients_of_tucker_are_those_of_its_parts():
    factors = trained(Tucker2(), CONV, 0.6)
    _, bonds = Tucker2().retruncate(factors, (2, 3))
    moments = [RNG.normal(size=factor.shape) for factor in factors]
    found = map_moments(Tucker2(), moments, bonds)
    (p1, q1), (p2, q2) = bonds
    np.testing.assert_allclose(found[0], moments[0] @ q1.T)
    core = np.einsum("ax,hwab,yb->hwxy", p1, moments[1], q2)
    np.testing.assert_allclose(found[1], core)
    np.testing.assert_allclose(found[2], p2.T @ moments[2])
    square = map_moments(Tucker2(), moments, bonds, squared=True)
    np.testing.assert_allclose(square[0], moments[0] @ np.square(q1).T)


def test_float16_factors_stay_float16():
    factors = [f.astype(np.float16) for f in SVD().decompose(DENSE, 8)]
    lower, bonds = SVD().retruncate(factors, 4)
    assert {f.dtype for f in lower} == {np.dtype(np.float16)}
    assert bonds[0][0].dtype == np.float64


def test_arrays_that_do_not_fit_bonds_are_refused():
    factors = SVD().decompose(DENSE, 8)
    _, bonds = SVD().retruncate(factors, 4)
    with pytest.raises(SqueezeError, match="Received: shape"):
        map_moments(SVD(), [f[..., :5] for f in factors], bonds)
    with pytest.raises(SqueezeError, match="Received: 1 bonds for 3"):
        map_moments(SVD(), [*factors, DENSE], bonds)
