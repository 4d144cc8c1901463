import itertools
import time

import numpy as np
import pytest

from keras_squeeze.errors import NonFiniteError, SqueezeError
from keras_squeeze.low_rank import (
    Choice,
    KernelInfo,
    Skip,
    budget,
    choose_within_budget,
    decompositions,
)
from keras_squeeze.low_rank.sharing import lower_hull, share_out

SHAPES = [(64, 48), (48, 32), (3, 3, 16, 32), (300, 16), (12, 3)]


def decaying(shape, power, seed=0):
    """A kernel whose singular values fall with a power of their number."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(int(np.prod(shape[:-1])), shape[-1]))
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    falling = np.arange(1.0, len(s) + 1) ** -power
    return ((u * falling) @ v).reshape(shape).astype("float32")


@pytest.fixture(scope="module")
def network():
    kinds = ["matrix", "matrix", "conv", "embedding", "matrix"]
    infos, kernels = [], []
    for number, (shape, kind) in enumerate(zip(SHAPES, kinds, strict=True)):
        positions = 64 if kind == "conv" else 1
        path = f"layer_{number}"
        infos.append(KernelInfo(path, shape, kind, positions=positions))
        kernels.append(decaying(shape, 0.5 + 0.3 * number, seed=number))
    return infos, kernels


def spent(infos, found, resource="parameters"):
    """What kernels and factors cost together."""
    total = 0
    for info, choice in zip(infos, found, strict=True):
        whole = isinstance(choice, Skip)
        parameters = info.size if whole else choice.parameters
        macs = info.macs if whole else choice.macs
        total += {
            "parameters": parameters,
            "bytes": parameters * info.itemsize,
            "flops": 2 * macs * (info.positions or 0),
        }[resource]
    return total


def squared_error(found):
    return sum(c.error**2 for c in found if isinstance(c, Choice))


@pytest.mark.parametrize("resource", ["parameters", "bytes", "flops"])
@pytest.mark.parametrize("share", [0.2, 0.4, 0.7, 0.95])
def test_the_budget_is_kept_and_used(network, resource, share):
    infos, kernels = network
    whole = spent(infos, [Skip("", "")] * len(infos), resource)
    found = choose_within_budget(infos, kernels, {resource: share})
    assert [c.path for c in found] == [i.path for i in infos]
    limit = int(share * whole)
    assert 0.8 * limit <= spent(infos, found, resource) <= limit
    absolute = choose_within_budget(infos, kernels, {resource: limit})
    assert absolute == found


def test_every_choice_saves_parameters_and_operations(network):
    infos, kernels = network
    for choice in choose_within_budget(infos, kernels, 0.5):
        if isinstance(choice, Choice):
            assert choice.parameters < choice.parameters_before
            assert choice.macs < choice.macs_before or "3" in choice.path


def test_the_error_falls_as_the_budget_grows(network):
    infos, kernels = network
    errors = [
        squared_error(choose_within_budget(infos, kernels, share))
        for share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


def test_a_budget_that_the_model_keeps_leaves_it_whole(network):
    infos, kernels = network
    found = choose_within_budget(infos, kernels, 1.0)
    assert all(isinstance(choice, Skip) for choice in found)
    assert "the budget holds without it" in found[0].reason
    assert "svd at rank 1" in found[-1].reason or found[-1].path == "layer_4"


def test_one_that_cannot_gain_says_why():
    infos = [
        KernelInfo("big", (40, 40), "matrix"),
        KernelInfo("vector", (40, 1), "matrix"),
    ]
    kernels = [decaying(info.shape, 1.0) for info in infos]
    big, vector = choose_within_budget(infos, kernels, 0.5)
    assert isinstance(big, Choice)
    assert "svd at rank 1 takes 41 parameters instead of 40" in vector.reason


def test_the_rest_of_the_model_counts(network):
    infos, kernels = network
    whole = sum(info.size for info in infos)
    found = choose_within_budget(
        infos, kernels, {"parameters": 0.5}, fixed_cost=1000
    )
    limit = int(0.5 * (whole + 1000)) - 1000
    assert 0.95 * limit <= spent(infos, found) <= limit


def test_a_budget_out_of_reach_names_the_smallest(network):
    infos, kernels = network
    with pytest.raises(SqueezeError) as raised:
        choose_within_budget(infos, kernels, {"parameters": 100}, fixed_cost=50)
    message = str(raised.value)
    assert "Received: budget={'parameters': 100}" in message
    least = int(message.split("at least ")[1].split()[0].replace(",", ""))
    found = choose_within_budget(
        infos, kernels, {"parameters": least}, fixed_cost=50
    )
    assert spent(infos, found) + 50 == least
    with pytest.raises(SqueezeError, match=f"{least:,} parameters"):
        choose_within_budget(
            infos, kernels, {"parameters": least - 1}, fixed_cost=50
        )
    share = float(message.split("parameters, ")[1].split()[0])
    choose_within_budget(infos, kernels, share, fixed_cost=50)


def test_kernels_of_low_rank_are_cut_before_others():
    infos = [KernelInfo(name, (60, 60), "matrix") for name in "ab"]
    low = decaying((60, 5), 0.0) @ decaying((5, 60), 0.0)
    found = choose_within_budget(infos, [decaying((60, 60), 0.0), low], 0.6)
    assert isinstance(found[0], Skip)
    assert found[1].ranks <= (6,)
    assert found[1].error < 1e-3


def test_no_kernel_is_given_up_for_the_others():
    # Flat spectra: by the sum of errors it were best to empty half of them.
    infos = [KernelInfo(name, (64, 64), "matrix") for name in "abcd"]
    kernels = [decaying((64, 64), 0.0, seed) for seed in range(4)]
    found = choose_within_budget(infos, kernels, 0.25)
    assert all(6 <= choice.ranks[0] <= 10 for choice in found)


def test_sensitive_kernels_keep_more():
    infos = [KernelInfo(name, (60, 60), "matrix") for name in "ab"]
    kernels = [decaying((60, 60), 0.7, seed) for seed in (0, 1)]
    even = choose_within_budget(infos, kernels, 0.4)
    found = choose_within_budget(infos, kernels, 0.4, sensitivities=[9.0, 1.0])
    assert abs(even[0].parameters - even[1].parameters) <= 2 * 120
    assert spent(infos[:1], found[:1]) > 2 * spent(infos[1:], found[1:])
    for wrong in ([1.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(SqueezeError, match="Expected 2 finite"):
            choose_within_budget(infos, kernels, 0.4, sensitivities=wrong)


def test_the_method_can_be_given(network):
    infos, kernels = network
    found = choose_within_budget(infos, kernels, 0.9, method="spatial_svd")
    assert [isinstance(choice, Choice) for choice in found] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert "spatial_svd: " in found[0].reason


def test_min_saving(network):
    infos, kernels = network
    found = choose_within_budget(infos, kernels, 0.8, min_saving=0.7)
    chosen = [c for c in found if isinstance(c, Choice)]
    assert chosen
    assert all(choice.saving >= 0.7 for choice in chosen)


def test_flops_need_the_positions(network):
    infos, kernels = network
    unknown = KernelInfo("net/conv", (3, 3, 16, 32), "conv")
    kernels = [kernels[0], kernels[2]]
    with pytest.raises(SqueezeError, match=r"net/conv.*keras.Input.*None"):
        choose_within_budget([infos[0], unknown], kernels, {"flops": 0.5})
    found = choose_within_budget([infos[0], unknown], kernels, {"bytes": 0.5})
    assert any(isinstance(choice, Choice) for choice in found)


def test_flops_follow_the_positions():
    shape = (3, 3, 32, 32)
    infos = [
        KernelInfo("early", shape, "conv", positions=1024),
        KernelInfo("late", shape, "conv", positions=16),
    ]
    kernels = [decaying(shape, 0.3, seed) for seed in (0, 1)]
    found = choose_within_budget(infos, kernels, {"flops": 0.6})
    assert isinstance(found[0], Choice)
    assert isinstance(found[1], Skip)


def test_an_embedding_is_never_factorized_for_flops(network):
    infos, kernels = network
    found = choose_within_budget(infos, kernels, {"flops": 0.3})
    assert isinstance(found[3], Skip)


def test_kernels_are_checked(network):
    infos, kernels = network
    spoiled = [kernels[0].copy(), *kernels[1:]]
    spoiled[0][0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="layer_0"):
        choose_within_budget(infos, spoiled, 0.5)
    with pytest.raises(SqueezeError, match="min_saving"):
        choose_within_budget(infos, kernels, 0.5, min_saving=-1)


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (0.5, {"parameters": 0.5}),
        (20_000, {"parameters": 20_000}),
        ({"bytes": np.int64(7)}, {"bytes": 7}),
        ({"flops": np.float32(0.25)}, {"flops": 0.25}),
        ({"parameters": 1.0}, {"parameters": 1.0}),
    ],
)
def test_get(identifier, expected):
    found = budget.get(identifier)
    assert found == expected
    assert [type(v) for v in found.values()] == [
        type(v) for v in expected.values()
    ]


@pytest.mark.parametrize(
    "identifier",
    [
        None,
        0,
        1.5,
        -0.1,
        float("nan"),
        True,
        "0.5",
        {},
        {"memory": 0.5},
        {"bytes": 0.5, "flops": 0.5},
        {"bytes": None},
        {"bytes": True},
        {"bytes": 0.0},
        {"flops": -3},
        {"flops": 2.5},
    ],
)
def test_get_refuses(identifier):
    with pytest.raises(SqueezeError, match=r"Expected a budget.*Received"):
        budget.get(identifier)


def problem(seed, kernels=4, ranks=7):
    """Costs and errors as a few kernels of different spectra have them."""
    rng = np.random.default_rng(seed)
    costs, errors = [], []
    for _ in range(kernels):
        squares = rng.exponential(size=ranks + 1) ** rng.integers(1, 5)
        squares = np.sort(squares)[::-1] / squares.sum()
        unit = int(rng.integers(1, 9))
        tails = 1 - np.cumsum(squares)[:ranks]
        costs.append(unit * np.array([ranks + 1.0, *range(1, ranks + 1)]))
        errors.append(np.array([0.0, *tails]))
    return costs, errors


def summed(arrays, picked):
    return sum(a[p] for a, p in zip(arrays, picked, strict=True))


def test_sharing_out_is_near_to_exhaustive_search():
    ratios = []
    for seed, share in itertools.product(range(8), (0.3, 0.5, 0.7)):
        costs, errors = problem(seed)
        limit = share * summed(costs, [0] * 4)
        picked = share_out(costs, errors, limit)
        assert summed(costs, picked) <= limit
        best = min(
            summed(errors, every)
            for every in itertools.product(range(8), repeat=4)
            if summed(costs, every) <= limit
        )
        ratios.append(summed(errors, picked) / best)
    assert min(ratios) > 1 - 1e-9
    assert np.mean(ratios) < 1.05
    assert np.median(ratios) == pytest.approx(1.0)


def test_the_hull_is_convex_and_holds_all_options():
    rng = np.random.default_rng(0)
    costs = rng.integers(1, 40, size=60).astype(float)
    errors = rng.random(60)
    hull = lower_hull(costs, errors)
    assert errors[hull[0]] == errors.min()
    assert costs[hull[-1]] == costs.min()
    slopes = -np.diff(errors[hull]) / np.diff(costs[hull])
    assert (slopes > 0).all()
    assert (np.diff(slopes) > 0).all()
    line = np.interp(costs, costs[hull[::-1]], errors[hull[::-1]])
    assert (errors >= line - 1e-12).all()


def test_the_least_is_picked_where_the_budget_cannot_be_met():
    costs, errors = problem(0)
    assert share_out(costs, errors, 0.0) == [1, 1, 1, 1]


def test_fifty_kernels_take_little_time(monkeypatch):
    rng = np.random.default_rng(0)
    known = np.sort(rng.random(512))[::-1]
    for name in decompositions.registry:
        cls = type(decompositions.get(name))
        monkeypatch.setattr(
            cls,
            "spectra",
            lambda self, kernel: tuple(
                known[: min(size)] for size in self.unfoldings(kernel.shape)
            ),
        )
    kernel = np.ones((512, 512), "float32")
    infos = [KernelInfo(str(n), (512, 512), "matrix") for n in range(50)]
    begin = time.process_time()
    found = choose_within_budget(infos, [kernel] * 50, 0.3)
    assert time.process_time() - begin < 1.5
    assert sum(choice.parameters for choice in found) > 0.29 * 50 * kernel.size
