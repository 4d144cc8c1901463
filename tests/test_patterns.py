"""Structured masks: which weights go together, and how many go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning import Block, Channel, NOfM, Unstructured, patterns
from keras_squeeze.testing import check_pattern

FEW = settings(max_examples=50, deadline=None)
RNG = np.random.default_rng(0)
DENSE = RNG.random((8, 6)).astype(np.float32)
CONV = RNG.random((3, 3, 8, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "pattern",
    [
        Unstructured(),
        Unstructured(per_channel=True),
        Channel("mean"),
        Channel("max"),
        Channel("l2"),
        Block(),
        Block((2, 3), "max"),
        Block((3,), "l2"),
        NOfM(),
        NOfM(1, 3),
        NOfM(3, 5),
    ],
    ids=repr,
)
def test_every_pattern_keeps_the_contract(pattern):
    check_pattern(pattern)


def test_blocks_over_the_window_keep_the_contract():
    check_pattern(Block((3, 1, 1, 2)), [(3, 3, 2, 4), (5, 1, 2, 3)])


# Channels -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pooling", "lost"), [("mean", 0), ("max", 2), ("l2", 1)]
)
def test_channels_are_ranked_by_their_pooled_scores(pooling, lost):
    # Means 2, 3, 4; root mean squares 3.5, 3, 4; largest 6, 3, 4.
    scores = np.array([[0.0, 3, 4], [0, 3, 4], [6, 3, 4]])
    if pooling == "max":
        scores[:, 2] = [2, 2.5, 2.9]
    keep = Channel(pooling).mask(scores, 1 / 3)
    expected = np.ones((3, 3), bool)
    expected[:, lost] = False
    np.testing.assert_array_equal(keep, expected)


@pytest.mark.parametrize(
    ("shape", "axes", "channels"),
    [
        ((8, 6), (-1,), 6),
        ((3, 3, 8, 4), (3,), 4),
        ((3, 3, 4, 8), (-2,), 4),
        ((3, 3, 5, 2), (2, 3), 10),
        ((6, 2, 4), (1, 2), 8),
    ],
)
def test_channels_go_whole_along_any_output_axes(shape, axes, channels):
    scores = RNG.random(shape)
    keep = Channel().mask(scores, 0.5, axes)
    axes = tuple(axis % len(shape) for axis in axes)
    inner = tuple(axis for axis in range(len(shape)) if axis not in axes)
    np.testing.assert_array_equal(keep.any(inner), keep.all(inner))
    assert np.count_nonzero(keep.any(inner)) == channels - round(channels / 2)
    worth = scores.mean(inner)
    assert worth[~keep.any(inner)].max() < worth[keep.any(inner)].min()


@FEW
@given(st.floats(0, 0.999))
def test_channels_round_to_the_nearest_and_one_stays(sparsity):
    keep = Channel().mask(DENSE, sparsity)
    gone = 6 - np.count_nonzero(keep.any(axis=0))
    assert gone == min(round(sparsity * 6), 5)


# Blocks -------------------------------------------------------------------


def brute_force_blocks(scores, block, pooling):
    pool = {"mean": np.mean, "max": np.max}[pooling]
    rows = [slice(i, i + block[0]) for i in range(0, len(scores), block[0])]
    width = scores.shape[1]
    columns = [slice(j, j + block[1]) for j in range(0, width, block[1])]
    places = [(row, column) for row in rows for column in columns]
    return places, [pool(scores[place]) for place in places]


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("block", [(4, 1), (1, 3), (2, 2), (3, 4), (8, 6)])
def test_blocks_equal_a_loop_over_blocks(block, pooling):
    places, worth = brute_force_blocks(DENSE, block, pooling)
    pattern = Block(block, pooling)
    np.testing.assert_allclose(pattern.group_scores(DENSE), worth, rtol=1e-6)
    sizes = [DENSE[place].size for place in places]
    np.testing.assert_array_equal(pattern.group_sizes(DENSE.shape), sizes)
    keep = pattern.mask(DENSE, 0.5)
    expected, gone = np.ones_like(keep), 0
    for index in np.argsort(worth, kind="stable")[: len(places) - 1]:
        if abs(gone + sizes[index] - 24) >= abs(gone - 24):
            break
        expected[places[index]] = False
        gone += sizes[index]
    np.testing.assert_array_equal(keep, expected)


def test_blocks_of_a_convolution_lie_in_its_last_axes():
    keep = Block((4, 2)).mask(CONV, 0.5)
    tiles = keep.reshape(3, 3, 2, 4, 2, 2)
    np.testing.assert_array_equal(tiles.any((3, 5)), tiles.all((3, 5)))
    assert np.count_nonzero(keep) == 144


# N of M -------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (5, 8)])
def test_every_group_keeps_its_n_largest(n, m):
    scores = RNG.random((16, 5))
    keep = NOfM(n, m).mask(scores, 1 - n / m)
    groups = np.moveaxis(scores.reshape(-1, m, 5), 1, -1)
    stays = np.moveaxis(keep.reshape(-1, m, 5), 1, -1)
    assert (stays.sum(-1) == n).all()
    smallest = np.sort(groups, -1)[..., m - n, None]
    np.testing.assert_array_equal(stays, groups >= smallest)


@pytest.mark.parametrize(
    ("shape", "axes", "axis"),
    [
        ((3, 3, 8, 4), (-1,), 2),
        ((3, 3, 4, 8), (-2,), 3),
        ((8, 2, 4), (1, 2), 0),
        ((3, 8, 5, 1), (2, 3), 1),
    ],
)
def test_groups_lie_along_the_last_axis_that_is_no_output(shape, axes, axis):
    keep = NOfM().mask(RNG.random(shape), 0.5, axes)
    groups = np.moveaxis(keep, axis, -1).reshape(-1, 4)
    assert (groups.sum(-1) == 2).all()


def test_the_groups_that_lose_least_take_the_pattern_first():
    scores = RNG.random((8, 6))
    lost = np.sort(scores.reshape(2, 4, 6), 1)[:, :2].mean(1)
    keep = NOfM().mask(scores, 0.25)
    taken = ~keep.reshape(2, 4, 6).all(1)
    assert np.count_nonzero(taken) == 6
    assert lost[taken].max() < lost[~taken].min()
    assert (keep.reshape(2, 4, 6).sum(1)[taken] == 2).all()


@pytest.mark.parametrize("length", [5, 6, 7, 9, 11])
def test_a_last_smaller_group_keeps_n_too(length):
    scores = RNG.random((length, 3)).astype(np.float32)
    pattern = NOfM()
    keep = pattern.mask(scores, 0.5)
    whole = length // 4 * 4
    assert (keep[:whole].reshape(-1, 4, 3).sum(1) == 2).all()
    assert (keep[whole:].sum(0) == min(2, length - whole)).all()
    sizes = pattern.group_sizes(scores.shape)
    assert sizes.sum() == keep.size - np.count_nonzero(keep)
    if length == 7:
        np.testing.assert_array_equal(sizes, [2] * 3 + [1] * 3)
        worth = pattern.group_scores(scores)[3]
        assert worth == scores[4:, 0].min()


def test_a_sparsity_above_the_patterns_own_is_refused():
    NOfM(1, 3).mask(DENSE, 2 / 3)
    message = r"at most 0\.5, .*NOfM\(n=2, m=4\).*Received: 0\.51$"
    with pytest.raises(SqueezeError, match=message):
        NOfM().mask(DENSE, 0.51)


# Within channels ------------------------------------------------------------


@FEW
@given(st.floats(0, 0.999), st.integers(0, 3))
def test_every_channel_loses_the_same_share(sparsity, levels):
    scores = np.round(DENSE * 10**levels)
    keep = Unstructured(per_channel=True).mask(scores, sparsity)
    gone = 8 - keep.sum(axis=0)
    assert gone.sum() == min(round(sparsity * 48), 47)
    assert gone.max() - gone.min() <= 1
    for channel, stays in zip(scores.T, keep.T, strict=True):
        if not stays.all() and stays.any():
            assert channel[~stays].max() <= channel[stays].min()


def test_ties_in_a_channel_go_by_position():
    keep = Unstructured(per_channel=True).mask(np.ones((4, 2)), 0.5)
    np.testing.assert_array_equal(keep.T, [[0, 0, 1, 1]] * 2)


def test_channels_of_a_transposed_convolution():
    scores = RNG.random((2, 2, 3, 5))
    keep = Unstructured(per_channel=True).mask(scores, 0.5, (-2,))
    np.testing.assert_array_equal(keep.sum((0, 1, 3)), [10, 10, 10])


# Shared -------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [Channel(), Block((4, 1)), NOfM()])
def test_one_weight_pruned_before_does_not_condemn_its_group(pattern):
    scores = np.ones((8, 2))
    scores[:, 1] = 10
    scores[0, 1] = -np.inf
    groups = pattern.group_scores(scores)
    assert np.isfinite(groups).all()
    scores[:, 0] = -np.inf
    assert (pattern.group_scores(scores) == -np.inf).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NOfM(4, 4), r"1 <= n < m.*n=4, m=4$"),
        (lambda: NOfM(0, 4), r"1 <= n < m.*n=0, m=4$"),
        (lambda: NOfM(1.5, 4), r"integers.*n=1\.5, m=4$"),
        (lambda: Block(()), r"`block_shape`.*Received: \(\)$"),
        (lambda: Block((0, 1)), r"positive integers.*Received: \(0, 1\)$"),
        (lambda: Block(4), r"sequence.*Received: 4$"),
        (lambda: Channel("sum"), r"`pooling`.*mean.*Received: 'sum'$"),
        (
            lambda: NOfM().mask(np.ones((3, 3, 2, 8)), 0.5),
            r"more than 2 weights.*axis 2 has size 2.*\(3, 3, 2, 8\)",
        ),
        (
            lambda: NOfM().mask(np.ones(8), 0.5),
            r"no such axis.*Received: shape \(8,\), channel_axis=\(-1,\)$",
        ),
        (
            lambda: Block((4, 4)).mask(np.ones((5, 3, 8)), 0.5),
            r"axis 1 has size 3, the block 4.*Received: shape \(5, 3, 8\)$",
        ),
        (
            lambda: Block((2, 2, 2)).mask(np.ones((4, 4)), 0.5),
            r"at least 3 axes.*Received: shape \(4, 4\)$",
        ),
        (
            lambda: Channel().mask(np.ones((4, 4)), 0.5, (2,)),
            r"`channel_axis`.*\(4, 4\).*Received: \(2,\)$",
        ),
        (
            lambda: patterns.get("unstructured").mask(np.ones(4), 1.0),
            r"in \[0, 1\).*Received: 1\.0$",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(SqueezeError, match=message):
        make()
