"""The squared Frobenius norm over the squared largest singular value."""

import numpy as np
import pytest

from keras_squeeze.low_rank.effective_rank import effective_rank

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (1, 7), (3, 3, 8, 16)])
def test_it_is_the_ratio_of_the_norms(shape):
    matrix = RNG.normal(size=shape)
    # One direction stands out, as it does in trained kernels.
    matrix[..., 0] *= 3
    values = np.linalg.svd(matrix.reshape(-1, shape[-1]), compute_uv=False)
    expected = np.sum(values**2) / values[0] ** 2
    assert effective_rank(matrix) == pytest.approx(expected, rel=0.01)


def test_bounds():
    assert effective_rank(np.outer(np.arange(5), np.ones(3))) == pytest.approx(
        1
    )
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.zeros((3, 4))) == 0
    assert effective_rank(np.full((3, 4), np.nan)) == 0


def test_the_scale_does_not_matter():
    matrix = RNG.normal(size=(9, 6))
    expected = effective_rank(matrix)
    for scale in (1e-100, 1e100):
        assert effective_rank(scale * matrix) == pytest.approx(expected)
