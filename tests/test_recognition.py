import numpy as np
import pytest

from keras_squeeze.pruning.recognition import recognize

SHAPES = [(64, 32), (3, 3, 16, 32)]


def weights(shape):
    return np.random.default_rng(0).normal(size=shape) + 10.0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.75, 0.9, 0.99])
def test_random_zeros_are_unstructured(shape, sparsity):
    rng = np.random.default_rng(1)
    for _ in range(5):
        keep = rng.random(shape) >= sparsity
        assert recognize(weights(shape) * keep) == "unstructured"


@pytest.mark.parametrize("shape", SHAPES)
def test_no_zeros_and_nothing_but_zeros(shape):
    assert recognize(weights(shape)) == "dense"
    assert recognize(np.zeros(shape)) == "empty"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_whole_output_channels(shape, sparsity):
    keep = np.random.default_rng(2).random(shape[-1]) >= sparsity
    assert recognize(weights(shape) * keep) == "channel"
    turned = np.swapaxes(weights(shape) * keep, -1, -2)
    assert recognize(turned, channel_axis=(-2,)) == "channel"
    # Whole inputs are blocks: no output channel is gone.
    assert recognize(turned).startswith("block ")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (1, 4), (4, 8), (3, 16)])
def test_n_of_m_along_the_reduction_axis(shape, n, m):
    ranks = np.random.default_rng(3).random((*shape[:-2], shape[-1], shape[-2]))
    groups = ranks.reshape(-1, m)
    keep = groups.argsort(axis=1).argsort(axis=1) >= m - n
    keep = np.swapaxes(keep.reshape(ranks.shape), -1, -2)
    assert recognize(weights(shape) * keep) == f"{n}:{m}"
    # A weight that training made zero does not hide the pattern.
    some = weights(shape) * keep
    some[tuple(index[0] for index in np.nonzero(some))] = 0
    assert recognize(some) == f"{n}:{m}"


def test_n_of_m_with_a_ragged_tail():
    chosen = np.random.default_rng(5).integers(0, 2, (11, 1, 8))
    keep = (chosen == [[0], [1]]).reshape(22, 8)
    ragged = np.concatenate([keep, np.ones((1, 8))])
    assert recognize(weights((23, 8)) * ragged) == "1:2"


@pytest.mark.parametrize("block", [(1, 4), (4, 1), (8, 8)])
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_blocks_with_their_shape(block, sparsity):
    rng = np.random.default_rng(4)
    keep = rng.random((64 // block[0], 32 // block[1])) >= sparsity
    if not keep.any():
        keep[0, 0] = True
    found = recognize(weights((64, 32)) * np.kron(keep, np.ones(block)))
    if block == (8, 8) and sparsity == 0.9:
        # So few blocks are left that larger ones fit them too.
        assert found.startswith("block ")
    else:
        assert found == f"block {block[0]}x{block[1]}"


def test_few_weights_prove_nothing():
    assert recognize(np.array([[1.0], [0.0], [2.0], [0.0]])) == "unstructured"
