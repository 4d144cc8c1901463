"""How the sparsity of a model is shared out among its kernels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning import (
    Block,
    Channel,
    ErdosRenyiKernel,
    Global,
    NOfM,
    PerLayer,
    Uniform,
    Unstructured,
    allocations,
)
from keras_squeeze.schedules import ConstantSparsity, PolynomialDecay

FEW = settings(max_examples=30, deadline=None)
SHAPES = ((3, 3, 3, 16), (3, 3, 16, 32), (288, 40), (40, 10))
NAMES = ("stem/kernel", "conv/kernel", "dense/kernel", "head/kernel")
AXES = ((-1,),) * 4
TOTAL = sum(int(np.prod(shape)) for shape in SHAPES)


def kernels(seed=0):
    rng = np.random.default_rng(seed)
    return [
        scale * rng.random(shape).astype(np.float32)
        for shape, scale in zip(SHAPES, (3, 1, 0.5, 2), strict=True)
    ]


def pruned(allocation, sparsity, pattern=None, scores=None, axes=AXES):
    """The masks, and how many weights go in each kernel."""
    pattern = pattern or Unstructured()
    scores = kernels() if scores is None else scores
    names = NAMES[: len(scores)]
    axes = axes[: len(scores)]
    found = allocation.sparsities(scores, names, sparsity, pattern, axes)
    assert all(type(each) is float and 0 <= each < 1 for each in found)
    masks = [
        pattern.mask(each, share, axis)
        for each, share, axis in zip(scores, found, axes, strict=True)
    ]
    return masks, [int(np.count_nonzero(~mask)) for mask in masks]


@FEW
@given(st.floats(0, 0.999))
def test_uniform_is_within_half_a_weight_in_every_kernel(sparsity):
    _, gone = pruned(Uniform(), sparsity)
    for count, each in zip(gone, kernels(), strict=True):
        assert abs(count - sparsity * each.size) <= 0.5 or (
            count == each.size - 1
        )


# Global ---------------------------------------------------------------------


@FEW
@given(st.floats(0, 0.999), st.integers(0, 3))
def test_global_is_one_ranking_of_all_weights(sparsity, levels):
    # Few levels are many ties, also between kernels.
    scores = [np.round(each * 4**levels) for each in kernels()]
    masks, gone = pruned(Global(), sparsity, scores=scores)
    assert sum(gone) == round(sparsity * TOTAL)
    lost = [each[~mask] for each, mask in zip(scores, masks, strict=True)]
    kept = [each[mask] for each, mask in zip(scores, masks, strict=True)]
    # A kernel's last weight stays even where it is among the lowest.
    kept = [each for each in kept if each.size > 1]
    if sum(gone):
        assert np.concatenate(lost).max() <= np.concatenate(kept).min()


def test_global_takes_from_where_scores_are_small():
    _, gone = pruned(Global(), 0.5)
    shares = [n / k.size for n, k in zip(gone, kernels(), strict=True)]
    assert shares[2] > shares[1] > shares[3] > shares[0]


@pytest.mark.parametrize("min_weights", [1, 50, 399])
def test_others_lose_more_for_the_weights_that_survive(min_weights):
    scores = kernels()
    scores[2] *= 1e-3
    _, gone = pruned(Global(min_weights), 0.9, scores=scores)
    assert sum(gone) == round(0.9 * TOTAL)
    assert gone[2] == scores[2].size - min_weights
    for count, each in zip(gone, scores, strict=True):
        assert each.size - count >= min(min_weights, each.size)


def test_global_goes_on_from_what_is_pruned():
    scores = kernels()
    masks, _ = pruned(Global(), 0.6, scores=scores)
    later = [
        np.where(mask, each, -np.inf)
        for mask, each in zip(masks, scores, strict=True)
    ]
    again, _ = pruned(Global(), 0.6, scores=later)
    more, gone = pruned(Global(), 0.8, scores=later)
    for first, second, third in zip(masks, again, more, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.any(third & ~first)
    assert sum(gone) == round(0.8 * TOTAL)


@pytest.mark.parametrize(
    ("pattern", "sparsity", "largest"),
    [
        (Channel(), 0.5, 288),
        (Block((4, 2)), 0.7, 8),
        (Block((3, 1)), 0.7, 3),
        (NOfM(), 0.3, 2),
        (NOfM(), 0.5, 2),
    ],
    ids=repr,
)
def test_groups_are_ranked_over_kernels(pattern, sparsity, largest):
    scores = kernels()[1:]
    masks, gone = pruned(Global(), sparsity, pattern, scores)
    total = sum(each.size for each in scores)
    assert abs(sum(gone) - sparsity * total) <= largest / 2
    assert all(mask.any() for mask in masks)
    worth = np.concatenate([pattern.group_scores(each) for each in scores])
    sizes = np.concatenate([pattern.group_sizes(each.shape) for each in scores])
    order = np.argsort(worth, kind="stable")
    assert sum(gone) in {0, *np.cumsum(sizes[order]).tolist()}


def test_a_kernel_of_cheap_channels_keeps_one():
    scores = kernels()
    scores[3] *= 1e-3
    masks, _ = pruned(Global(), 0.5, Channel(), scores)
    assert np.count_nonzero(masks[3].any(axis=0)) == 1


def test_global_needs_a_pattern_of_groups():
    class Alone:
        def mask(self, scores, sparsity, channel_axis=(-1,)):
            return scores > 0

    message = r"`group_scores` and `group_sizes`.*Received: <.*Alone"
    with pytest.raises(SqueezeError, match=message):
        pruned(Global(), 0.5, Alone())


# Erdős-Rényi-Kernel ---------------------------------------------------------


@FEW
@given(st.floats(0, 0.999))
def test_erdos_renyi_kernel_is_exact_in_total(sparsity):
    _, gone = pruned(ErdosRenyiKernel(), sparsity)
    kept = [k.size - n for k, n in zip(kernels(), gone, strict=True)]
    assert abs(sum(gone) - sparsity * TOTAL) <= 1 or min(kept) == 1


def test_erdos_renyi_kernel_follows_the_formula():
    _, gone = pruned(ErdosRenyiKernel(), 0.95)
    kept = [k.size - n for k, n in zip(kernels(), gone, strict=True)]
    # None is dense here: the weights kept are as the sums of the dimensions.
    sums = np.array([sum(shape) for shape in SHAPES])
    expected = sums * sum(kept) / sums.sum()
    np.testing.assert_allclose(kept, expected, atol=1)


def test_kernels_that_would_be_more_than_dense_stay_dense():
    _, gone = pruned(ErdosRenyiKernel(), 0.5)
    sizes = [each.size for each in kernels()]
    kept = np.subtract(sizes, gone)
    assert gone[0] == gone[3] == 0
    ratio = kept[1] / kept[2]
    assert ratio == pytest.approx((3 + 3 + 16 + 32) / (288 + 40), rel=1e-2)


def test_bounds_of_the_pattern_and_of_the_survivors_are_kept():
    pattern = NOfM()
    _, gone = pruned(ErdosRenyiKernel(), 0.45, pattern, kernels()[1:])
    assert max(gone[1] / (288 * 40), gone[0] / (9 * 16 * 32)) <= 0.5
    _, gone = pruned(ErdosRenyiKernel(60), 0.99)
    assert min(k.size - n for k, n in zip(kernels(), gone, strict=True)) == 60


# Per layer ------------------------------------------------------------------


def test_the_first_expression_found_in_the_path_counts():
    chosen = {"^conv": 0.3, "(conv|head)/": 0.0}
    allocation = allocations.get(chosen)
    assert allocation == PerLayer(chosen)
    found = allocation.sparsities(kernels(), NAMES, 0.8, Unstructured(), AXES)
    assert found == [0.8, 0.3, 0.8, 0.0]


def test_factors_multiply_the_sparsity_of_the_whole():
    allocation = PerLayer({"conv": 0.5, "dense": 3}, relative=True)
    found = allocation.sparsities(kernels(), NAMES, 0.8, Unstructured(), AXES)
    assert found == [0.8, 0.4, 1 - 1 / (288 * 40), 0.8]


def test_values_are_reached_when_the_schedule_ends():
    ramp = PolynomialDecay(0.0, 0.8, 0, 100)
    plain = PerLayer({"dense": 0.95, "conv": 0.4})
    allocation = plain.for_schedule(ramp)

    def at(sparsity):
        return allocation.sparsities(
            kernels(), NAMES, sparsity, Unstructured(), AXES
        )

    assert at(0.0) == [0.0] * 4
    np.testing.assert_allclose(at(0.4), [0.4, 0.2, 0.475, 0.4])
    np.testing.assert_allclose(at(ramp(100)), [0.8, 0.4, 0.95, 0.8])
    assert plain.for_schedule(ConstantSparsity(0.5)) is plain


@pytest.mark.parametrize(
    "allocation",
    [
        PerLayer({"conv": 0.5}, min_weights=3),
        PerLayer({"a": 2.5, "b": 0}, relative=True),
        PerLayer({"a": 0.5}, final_sparsity=0.9),
    ],
)
def test_an_allocation_per_layer_has_a_config(allocation):
    assert allocations.get(allocations.serialize(allocation)) == allocation


@pytest.mark.parametrize("kind", [Uniform, Global, ErdosRenyiKernel, PerLayer])
def test_min_weights_survive_in_small_kernels(kind):
    arguments = {"sparsities": {"s": 0.9}} if kind is PerLayer else {}
    scores = [np.arange(6.0).reshape(2, 3), *kernels()[1:]]
    _, gone = pruned(kind(**arguments, min_weights=8), 0.9, scores=scores)
    assert gone[0] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(0), r"`min_weights`.*at least 1.*Received: 0$"),
        (lambda: Global(2.5), r"`min_weights`.*Received: 2\.5$"),
        (lambda: PerLayer({}), r"not empty.*Received: \{\}$"),
        (lambda: PerLayer({"(": 0.5}), r"regular expr.*Received: '\('$"),
        (lambda: PerLayer({"a": 1.0}), r"sparsities\['a'\].*Received: 1\.0$"),
        (
            lambda: PerLayer({"a": -1}, relative=True),
            r"factor of 'a'.*Received: -1$",
        ),
        (lambda: PerLayer({"a": 0.5}, final_sparsity=1.5), r"final_sparsity"),
        (
            lambda: pruned(PerLayer({"conv": 0.1, "lstm": 0.5}), 0.5),
            r"found in a kernel's path.*stem/kernel.*Received: 'lstm'$",
        ),
        (
            lambda: pruned(PerLayer({"dense": 0.6}), 0.5, NOfM()),
            r"^dense/kernel: .*at most 0\.5.*Received: 0\.6$",
        ),
        (lambda: pruned(Uniform(), 1.0), r"in \[0, 1\).*Received: 1\.0$"),
        (lambda: pruned(Global(), -0.1), r"in \[0, 1\).*Received: -0\.1$"),
        (
            lambda: pruned(ErdosRenyiKernel(), 0.6, NOfM()),
            r"at most 0\.5.*Received: 0\.6$",
        ),
        (
            lambda: pruned(Global(), 0.5, Block((5, 1))),
            r"^stem/kernel: .*axis 2 has size 3, the block 5",
        ),
        (
            lambda: pruned(ErdosRenyiKernel(), 0.5, NOfM(3, 4)),
            r"Expected a sparsity of at most 0\.25",
        ),
        (
            lambda: pruned(ErdosRenyiKernel(), 0.2, NOfM(3, 4)),
            r"^stem/kernel: .*axis 2 has size 3",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(SqueezeError, match=message):
        make()


@pytest.mark.parametrize("pattern", [Channel(), Block((5, 3)), NOfM(1, 6)])
@pytest.mark.parametrize("kind", [Uniform, Global, ErdosRenyiKernel])
def test_min_weights_survive_in_whole_groups(kind, pattern):
    scores = [kernels()[2], kernels()[3]]
    _, gone = pruned(kind(min_weights=350), 0.83, pattern, scores)
    assert min(400 - gone[1], 11520 - gone[0]) >= 350
    assert gone[0] > 9000


def test_shapes_are_enough_where_scores_do_not_count():
    zeros = [np.broadcast_to(np.float32(0), shape) for shape in SHAPES]
    for kind in (Uniform(), ErdosRenyiKernel(), PerLayer({"conv": 0.5})):
        assert not kind.needs_scores
        arguments = (NAMES, 0.7, Unstructured(), AXES)
        found = kind.sparsities(zeros, *arguments)
        assert found == kind.sparsities(kernels(), *arguments)
    assert Global().needs_scores
