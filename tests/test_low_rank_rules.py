import functools
import json
import math

import numpy as np
import pytest

from keras_squeeze.errors import (
    NonFiniteError,
    SqueezeError,
    UnknownIdentifierError,
)
from keras_squeeze.low_rank import (
    VBMF,
    Energy,
    FixedRank,
    GavishDonoho,
    MarchenkoPastur,
    RankFraction,
    RankRule,
    rank_rules,
)
from keras_squeeze.low_rank.gavish_donoho import threshold_factor
from keras_squeeze.low_rank.marchenko_pastur import median_eigenvalue
from keras_squeeze.low_rank.vbmf import minimize_bounded

NOISE_RULES = [VBMF(), GavishDonoho(), MarchenkoPastur()]
RULES = [FixedRank(3), RankFraction(0.4), Energy(0.9), *NOISE_RULES]


@functools.cache
def spectrum(rows, columns, rank, noise, seed=0):
    """Singular values of a product of two Gaussian factors plus noise."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    matrix = signal + noise * rng.normal(size=(rows, columns))
    return np.linalg.svd(matrix, compute_uv=False)


@pytest.mark.parametrize("rule", NOISE_RULES, ids=repr)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-200, 1e200])
@pytest.mark.parametrize(
    ("rows", "columns", "rank", "noise"),
    [
        (60, 80, 4, 0.1),
        (100, 100, 10, 1.0),
        (256, 48, 5, 1.0),
        (40, 200, 12, 0.5),
        (50, 50, 7, 0.0),
    ],
)
def test_noise_rules_find_the_true_rank(
    rule, scale, rows, columns, rank, noise
):
    values = spectrum(rows, columns, rank, noise) * scale
    assert rule.rank(values, rows, columns) == rank


@pytest.mark.parametrize("rule", NOISE_RULES, ids=repr)
def test_the_side_of_a_matrix_does_not_matter(rule):
    values = spectrum(30, 90, 3, 0.3)
    assert rule.rank(values, 30, 90) == rule.rank(values, 90, 30) == 3


@pytest.mark.parametrize("rule", NOISE_RULES, ids=repr)
@pytest.mark.parametrize("shape", [(120, 120), (40, 200)])
def test_of_noise_alone_next_to_nothing_is_kept(rule, shape):
    ranks = [
        rule.rank(spectrum(*shape, 0, 1.0, seed), *shape) for seed in range(5)
    ]
    assert max(ranks) <= 2
    assert sum(ranks) <= 6


def test_a_weak_signal_is_cut_later_by_the_lower_threshold():
    # The edge lies at 2 sigma sqrt(n), the optimal threshold at 4 / sqrt(3).
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 200)) / math.sqrt(200)
    left, _ = np.linalg.qr(rng.normal(size=(200, 2)))
    right, _ = np.linalg.qr(rng.normal(size=(200, 2)))
    weak = noise + (left * [8.0, 1.45]) @ right.T
    values = np.linalg.svd(weak, compute_uv=False)
    assert 2.0 < values[1] < 4 / math.sqrt(3)
    assert MarchenkoPastur().rank(values, 200, 200) == 2
    assert GavishDonoho().rank(values, 200, 200) == 1


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_a_single_row_has_rank_one(rule, value):
    assert rule.rank(np.array([value]), 1, 9) == 1
    assert rule.rank(np.array([value]), 9, 1) == 1


@pytest.mark.parametrize("rule", [Energy(0.9), Energy(1.0), *NOISE_RULES])
def test_a_matrix_of_zeros_has_rank_one(rule):
    assert rule.rank(np.zeros(6), 6, 20) == 1


@pytest.mark.parametrize(
    ("energy", "rank"), [(0.5, 1), (0.73, 1), (0.74, 2), (0.97, 2), (0.99, 3)]
)
def test_energy_is_the_smallest_rank_that_reaches_the_share(energy, rank):
    # The squares are 9, 3 and 0.25: shares of 0.735, 0.980 and 1 add up.
    values = np.array([3.0, math.sqrt(3), 0.5])
    assert Energy(energy).rank(values, 3, 3) == rank


def test_all_energy_keeps_the_rank_of_the_matrix():
    assert Energy(1.0).rank(np.array([4.0, 2.0, 0.0, 0.0]), 4, 4) == 2


def test_energy_shares_the_loss_between_two_ranks():
    values = np.sqrt([0.8, 0.12, 0.05, 0.03])
    assert Energy(0.91).ranks([values], [(4, 4)]) == (2,)
    ranks = Energy(0.91).ranks([values, values], [(4, 4), (4, 9)])
    assert ranks == (3, 3)


@pytest.mark.parametrize(
    ("fraction", "rank"), [(0.001, 1), (0.25, 16), (0.5, 32), (1.0, 64)]
)
def test_fraction_is_one_of_the_full_rank(fraction, rank):
    assert RankFraction(fraction).rank(np.ones(64), 64, 100) == rank


def test_fixed_rank_is_limited_by_the_matrix():
    assert FixedRank(5).rank(np.ones(8), 8, 9) == 5
    assert FixedRank(50).rank(np.ones(8), 8, 9) == 8


def test_fixed_ranks_of_two_go_to_two_unfoldings():
    spectra, sizes = [np.ones(4), np.ones(8)], [(4, 90), (8, 45)]
    assert FixedRank((2, 6)).ranks(spectra, sizes) == (2, 6)
    assert FixedRank(6).ranks(spectra, sizes) == (4, 6)
    with pytest.raises(SqueezeError, match=r"tuple of 1 rank.*\(2, 6\)"):
        FixedRank((2, 6)).ranks(spectra[:1], sizes[:1])


@pytest.mark.parametrize("rank", [0, -3, 2.5, "8", True, (), (3, 0), None])
def test_fixed_rank_refuses(rank):
    with pytest.raises(SqueezeError, match=r"at least 1.*Received"):
        FixedRank(rank)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, math.nan, "0.9", None, True])
@pytest.mark.parametrize("rule", [Energy, RankFraction])
def test_shares_outside_of_zero_to_one_are_refused(rule, share):
    with pytest.raises(SqueezeError, match=r"\(0, 1\].*Received"):
        rule(share)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([1.0, math.nan, 0.1], NonFiniteError),
        ([math.inf, 1.0, 0.1], NonFiniteError),
        ([1.0, 2.0, 0.1], SqueezeError),
        ([1.0, 0.5, -0.1], SqueezeError),
        ([1.0, 0.5], SqueezeError),
        ([], SqueezeError),
    ],
)
def test_what_is_no_spectrum_of_the_matrix_is_refused(values, error):
    with pytest.raises(error, match="Received"):
        VBMF().rank(np.array(values), 3, 7)


def test_the_median_of_the_law_is_the_one_of_noise():
    # At the ratio of one the singular values follow a quarter of a circle.
    half = math.sqrt(median_eigenvalue(1.0)) / 2
    area = half * math.sqrt(1 - half**2) + math.asin(half)
    assert area == pytest.approx(math.pi / 4, abs=1e-6)
    for rows, columns in [(100, 500), (200, 250)]:
        values = spectrum(rows, columns, 0, 1.0)
        expected = np.median(values**2) / columns
        found = median_eigenvalue(rows / columns)
        assert found == pytest.approx(expected, rel=0.02)
    assert median_eigenvalue(1e-6) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.7, 1.0])
def test_the_threshold_is_near_its_published_approximation(ratio):
    cubic = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    assert threshold_factor(ratio) == pytest.approx(cubic, abs=0.03)


def test_the_optimal_threshold_has_about_the_least_error():
    rng = np.random.default_rng(3)
    signal = rng.normal(size=(150, 8)) * np.geomspace(3, 0.1, 8)
    signal = signal @ rng.normal(size=(8, 150))
    u, s, v = np.linalg.svd(signal + rng.normal(size=(150, 150)))
    errors = [
        np.linalg.norm((u[:, :r] * s[:r]) @ v[:r] - signal) for r in range(12)
    ]
    assert errors[GavishDonoho().rank(s, 150, 150)] < 1.05 * min(errors)


def test_the_variance_found_is_the_global_minimum():
    def bumpy(x):
        return np.cos(6 * np.log(x)) + 0.1 * np.log(x) ** 2

    points = np.geomspace(0.01, 50, 100_001)
    expected = points[np.argmin(bumpy(points))]
    found = minimize_bounded(bumpy, 0.01, 50.0)
    assert found == pytest.approx(expected, rel=1e-3)
    assert minimize_bounded(np.log, 0.5, 2.0) == pytest.approx(0.5)
    assert minimize_bounded(lambda x: -x, 0.5, 2.0) == pytest.approx(2.0)


@pytest.mark.parametrize("rule", [*RULES, FixedRank((3, 4))], ids=repr)
def test_config_round_trip(rule):
    config = json.loads(json.dumps(rank_rules.serialize(rule)))
    again = rank_rules.get(config)
    assert again == rule
    assert repr(again) == repr(rule)
    assert type(rule).from_config(rule.get_config()) == rule


@pytest.mark.parametrize(
    ("identifier", "rule"),
    [
        (7, FixedRank(7)),
        (np.int64(7), FixedRank(7)),
        ((7, 8), FixedRank((7, 8))),
        ([7, 8], FixedRank((7, 8))),
        (0.5, RankFraction(0.5)),
        (1.0, RankFraction(1.0)),
        ("vbmf", VBMF()),
        ("VBMF", VBMF()),
        ("GavishDonoho", GavishDonoho()),
        ("marchenko_pastur", MarchenkoPastur()),
        ({"class_name": "energy", "config": {"energy": 0.5}}, Energy(0.5)),
        (Energy(0.25), Energy(0.25)),
    ],
)
def test_get(identifier, rule):
    assert rank_rules.get(identifier) == rule


@pytest.mark.parametrize("identifier", [None, 0, 1.5, True, Energy, object()])
def test_get_refuses(identifier):
    with pytest.raises(SqueezeError, match="Received"):
        rank_rules.get(identifier)


def test_unknown_names_and_missing_arguments():
    with pytest.raises(UnknownIdentifierError, match="gavish_donoho"):
        rank_rules.get("vmbf")
    with pytest.raises(UnknownIdentifierError, match="energy"):
        rank_rules.get("energy")


def test_a_rule_of_ones_own_implements_keep():
    class Half(RankRule):
        def keep(self, values, rows, columns):
            return values.size // 2

    assert rank_rules.get(Half()).rank(np.ones(9), 9, 9) == 4
    assert Half().rank(np.ones(1), 1, 9) == 1
    with pytest.raises(NotImplementedError, match="keep"):
        RankRule().rank(np.ones(3), 3, 3)
