"""Singular values by three ways, against the exact ones."""

import numpy as np
import pytest

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.low_rank import (
    SVD,
    singular_values,
)
from keras_squeeze.low_rank import (
    truncated_svd as decomposed,
)
from keras_squeeze.low_rank.truncated_svd import leading_vectors

RNG = np.random.default_rng(0)
# Above 256 rows and columns the Gram matrix, or a random range, takes over.
ROWS, COLUMNS = 320, 280


def with_spectrum(values):
    left = np.linalg.qr(RNG.normal(size=(ROWS, COLUMNS)))[0]
    right = np.linalg.qr(RNG.normal(size=(COLUMNS, COLUMNS)))[0]
    return left * values @ right


PLACES = np.arange(1.0, COLUMNS + 1)
MATRICES = {
    "noise": RNG.normal(size=(ROWS, COLUMNS)),
    "flat": with_spectrum(np.where(PLACES > 20, 0.9, 1.0)),
    "slow": with_spectrum(PLACES**-0.5),
    "steep": with_spectrum(PLACES**-2),
    "exponential": with_spectrum(0.9**PLACES),
}
EXACT = {
    name: np.linalg.svd(matrix, compute_uv=False)
    for name, matrix in MATRICES.items()
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize(
    ("rank", "dtype"),
    [(5, np.float64), (20, np.float32), (35, np.float32), (36, np.float64)],
)
def test_error_is_near_the_least_there_is(name, rank, dtype):
    matrix = MATRICES[name].astype(dtype)
    exact = EXACT[name]
    u, s, vt = decomposed(matrix, rank)
    assert u.shape == (ROWS, rank) and vt.shape == (rank, COLUMNS)
    least = np.linalg.norm(exact[rank:])
    rounding = (2e-6 if dtype == np.float32 else 1e-11) * exact[0]
    assert np.linalg.norm(u * s @ vt - matrix) <= 1.01 * least + rounding
    assert (np.diff(s) <= 0).all()
    assert np.linalg.norm(s) <= np.linalg.norm(exact[:rank]) + rounding


@pytest.mark.parametrize("rank", [10, 100])
def test_vectors_are_orthonormal(rank):
    for matrix in (MATRICES["slow"], MATRICES["slow"].T):
        u, _, vt = decomposed(matrix, rank)
        np.testing.assert_allclose(u.T @ u, np.eye(rank), atol=1e-7)
        np.testing.assert_allclose(vt @ vt.T, np.eye(rank), atol=1e-7)


@pytest.mark.parametrize("name", MATRICES)
def test_singular_values_are_the_exact_ones(name):
    matrix, exact = MATRICES[name], EXACT[name]
    for each in (matrix.T, matrix.astype(np.float32)):
        found = singular_values(each)
        np.testing.assert_allclose(found, exact, atol=3e-7 * exact[0])
    assert singular_values(matrix[:9]).shape == (9,)


@pytest.mark.parametrize("rank", [10, 100])
def test_equal_arguments_give_equal_bits(rank):
    matrix = MATRICES["noise"].astype(np.float32)
    first, again = decomposed(matrix, rank, 3), decomposed(matrix, rank, 3)
    assert all(map(np.array_equal, first, again))


@pytest.mark.parametrize("rank", [10, 100])
def test_matrices_of_lower_rank_come_back_with_zeros_behind(rank):
    factors = RNG.normal(size=(ROWS, 4)), RNG.normal(size=(4, COLUMNS))
    for matrix in (factors[0] @ factors[1], np.zeros((ROWS, COLUMNS))):
        u, s, vt = decomposed(matrix, rank)
        assert u.shape == (ROWS, rank) and vt.shape == (rank, COLUMNS)
        np.testing.assert_allclose(u * s @ vt, matrix, atol=1e-9)
        assert (s[4:] <= 1e-6 * s[0]).all()


@pytest.mark.parametrize("scale", [1e-36, 1e36])
@pytest.mark.parametrize("rank", [10, 100])
def test_squares_neither_overflow_nor_vanish(scale, rank):
    matrix = MATRICES["slow"].astype(np.float32)
    plain = EXACT["slow"][:rank]
    _, scaled, _ = decomposed(matrix * np.float32(scale), rank)
    np.testing.assert_allclose(scaled / scale, plain, rtol=1e-4)


def test_leading_vectors_span_what_exact_ones_span():
    for matrix in (
        MATRICES["slow"],
        MATRICES["slow"].T,
        RNG.normal(size=(9, 5)),
    ):
        rank = 4
        found = leading_vectors(matrix, rank)
        exact = np.linalg.svd(matrix)[0][:, :rank]
        np.testing.assert_allclose(found.T @ found, np.eye(rank), atol=1e-9)
        kept = np.linalg.norm(found.T @ matrix)
        assert kept == pytest.approx(np.linalg.norm(exact.T @ matrix), rel=1e-3)


def test_leading_vectors_go_on_where_the_columns_end():
    matrix = RNG.normal(size=(9, 3))
    found = leading_vectors(matrix, 8)
    np.testing.assert_allclose(found.T @ found, np.eye(8), atol=1e-12)
    assert np.linalg.norm(found[:, :3].T @ matrix) == pytest.approx(
        np.linalg.norm(matrix)
    )


@pytest.mark.slow
def test_large_kernel_is_decomposed_near_the_least_error():
    random = np.random.default_rng(1)
    size, rank = 4096, 128
    signal = random.standard_normal((2, size, rank), np.float32)
    noise = random.standard_normal((size, size), np.float32)
    kernel = signal[0] @ signal[1].T + noise
    factors = SVD().decompose(kernel, rank)
    assert [f.shape for f in factors] == [(size, rank), (rank, size)]
    left = kernel - SVD().compose(factors)
    # The nearest product of this rank leaves no more than there is of noise.
    assert np.linalg.norm(left) <= np.linalg.norm(noise)


def test_bad_matrices_and_ranks_are_refused():
    matrix = RNG.normal(size=(4, 3))
    for rank in (0, 4, -1):
        with pytest.raises(SqueezeError, match=f"from 1 to 3.*: {rank}$"):
            decomposed(matrix, rank)
    for bad in (np.ones(3), np.ones((2, 2, 2)), np.ones((0, 4))):
        with pytest.raises(SqueezeError, match="Received: shape"):
            singular_values(bad)
    with pytest.raises(NonFiniteError, match="Received: 1 of 4"):
        decomposed(np.array([[1.0, np.nan], [0.0, 1.0]]), 1)
