"""Kept weights change places with pruned ones."""

import numpy as np
import pytest

from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning import (
    SET,
    Channel,
    NOfM,
    RigL,
    Splicing,
    Unstructured,
    regrowths,
)
from keras_squeeze.pruning.annealing import annealed

RNG = np.random.default_rng(0)
SCORES = RNG.random((20, 30))
KEEP = Unstructured().mask(SCORES, 0.8)
GRADIENT = RNG.random((20, 30)).astype(np.float32)
END = 100


def regrow(regrowth, step=0, keep=KEEP, scores=SCORES, seed=0, end=END):
    rng = np.random.default_rng([seed, step])
    gathered = {"gradient_l1": GRADIENT}
    chosen = {name: gathered[name] for name in regrowth.statistics}
    return regrowth.regrow(keep, scores, step, end, rng, **chosen)


@pytest.mark.parametrize("name", sorted(regrowths.registry))
@pytest.mark.parametrize("step", [0, 30, 99, 100, 500])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.8, 0.999])
def test_as_many_stay_as_before(name, step, sparsity):
    keep = Unstructured().mask(SCORES, sparsity)
    before = keep.copy()
    new = regrow(regrowths.get(name), step, keep)
    assert new.dtype == bool
    assert new is not keep
    assert np.count_nonzero(new) == np.count_nonzero(keep)
    np.testing.assert_array_equal(keep, before)
    if step >= END:
        np.testing.assert_array_equal(new, keep)


@pytest.mark.parametrize("regrowth", [SET(0.25), RigL(0.25)])
@pytest.mark.parametrize("step", [0, 50])
def test_the_lowest_of_the_kept_make_room(regrowth, step):
    count = round(annealed(0.25, step, END) * 120)
    new = regrow(regrowth, step)
    left = KEEP & ~new
    lowest = np.sort(SCORES[KEEP])[:count]
    assert SCORES[left].max() <= lowest[-1]
    if isinstance(regrowth, SET):
        assert np.count_nonzero(left) == count


def test_rigl_grows_the_largest_gradients_of_what_is_free():
    new = regrow(RigL(0.25))
    lowest = np.sort(SCORES[KEEP])[29]
    stays = KEEP & np.greater(SCORES, lowest)
    highest = np.sort(GRADIENT[~stays])[-30]
    expected = stays | (~stays & np.greater_equal(GRADIENT, highest))
    np.testing.assert_array_equal(new, expected)


def test_set_draws_again_what_it_drew():
    first = regrow(SET(), 10, seed=1)
    np.testing.assert_array_equal(regrow(SET(), 10, seed=1), first)
    assert not np.array_equal(regrow(SET(), 10, seed=2), first)


def test_set_draws_evenly_from_the_pruned():
    counts = np.zeros(KEEP.shape)
    for seed in range(300):
        counts += regrow(SET(1.0), seed=seed) & ~KEEP
    drawn = counts[~KEEP]
    assert not counts[KEEP].any()
    # 120 of 480 places, 300 times: 75 each, give or take 7.5.
    assert abs(drawn.mean() - 75) < 1e-9
    assert drawn.min() > 40
    assert drawn.max() < 110


def test_splicing_leaves_the_choice_to_the_pattern():
    values = SCORES.copy()
    values[~KEEP] += 1
    keep = Unstructured().mask(values, 0.8)
    new = regrow(Splicing(), keep=keep, scores=values)
    np.testing.assert_array_equal(new, keep)
    assert not np.array_equal(new, KEEP)
    assert Splicing.keeps_pruned_weights
    assert not (SET.keeps_pruned_weights or RigL.keeps_pruned_weights)


def test_the_exchange_fades_out():
    moved = [np.count_nonzero(KEEP & ~regrow(SET(), s)) for s in range(0, 101)]
    assert moved == sorted(moved, reverse=True)
    assert moved[0] == 36
    assert moved[50] == 18
    assert moved[100] == 0
    assert np.count_nonzero(KEEP & ~regrow(SET(), 10**6, end=None)) == 36


def test_single_weights_are_not_exchanged_in_structured_masks():
    regrowths.check_pattern(RigL(), Unstructured())
    regrowths.check_pattern(Splicing(), NOfM())
    for pattern in (Channel(), NOfM(), Unstructured(per_channel=True)):
        with pytest.raises(SqueezeError, match=r"'unstructured'.*Received: "):
            regrowths.check_pattern(SET(), pattern)


@pytest.mark.parametrize("fraction", [0, 1.5, -0.1, "0.3", True])
@pytest.mark.parametrize("kind", [SET, RigL])
def test_a_fraction_out_of_range_is_refused(kind, fraction):
    with pytest.raises(SqueezeError, match=r"`fraction`.*Received: "):
        kind(fraction)


def test_rigl_names_the_gradient_it_misses():
    rng = np.random.default_rng(0)
    with pytest.raises(SqueezeError, match=r"'gradient_l1'.*RigL.*Received"):
        RigL().regrow(KEEP, SCORES, 0, END, rng)
