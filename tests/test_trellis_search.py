import dataclasses
import itertools

import numpy as np
import pytest

from keras_squeeze import native
from keras_squeeze.codecs.trellis import STATES, next_states
from keras_squeeze.quantizers import trellis_search
from keras_squeeze.quantizers.trellis_search import (
    LANES,
    SearchProblem,
    search_path,
    search_path_reference,
)

needs_native = pytest.mark.skipif(
    trellis_search._kernel() is None, reason="no compiled kernel"
)


def problem(steps=60, chains=LANES, seed=0, classes=3, levels=6, spread=3.0):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(steps, chains)) * spread
    values[generator.random(values.shape) < 0.1] = 0
    return SearchProblem(
        values.astype(np.float32),
        generator.uniform(0.8, 1.2, values.shape).astype(np.float32)
        if seed % 2
        else None,
        generator.integers(0, classes, values.shape).astype(np.uint8),
        generator.random((classes, 2, levels)).astype(np.float32) * 2,
    )


def cost(problem, codes, grids):
    """The cost the search minimises, of given codes."""
    importance = problem.importance
    importance = 1.0 if importance is None else importance.astype(np.float64)
    magnitude = np.abs(codes)
    levels = np.minimum((magnitude + grids) // 2, problem.rates.shape[2] - 1)
    rates = problem.rates[problem.classes, grids, levels].astype(np.float64)
    error = codes.astype(np.float64) - problem.values
    return (importance * error**2 + rates).sum(axis=0)


def walk(codes, states):
    """The grids the machine takes; asserts that it allows the codes."""
    machine = next_states(states)
    grids = np.empty(codes.shape, np.uint8)
    for chain in range(codes.shape[1]):
        state = 0
        for step in range(len(codes)):
            grid = state & 1
            code = abs(int(codes[step, chain]))
            assert code == 0 or code % 2 == grid
            grids[step, chain] = grid
            state = machine[state, ((code + grid) // 2) & 1]
    return grids


@pytest.mark.parametrize("states", STATES)
def test_the_path_obeys_the_machine(states):
    found = search_path(problem(seed=states), states)
    assert np.array_equal(found.grids, walk(found.codes, states))


@pytest.mark.parametrize("seed", range(6))
def test_no_other_path_is_cheaper(seed):
    small = problem(steps=5, seed=seed, spread=1.2)
    found = search_path_reference(small, 4)
    least = np.full(LANES, np.inf)
    for levels in itertools.product(range(3), repeat=5):
        codes, state = np.zeros((5, 1), int), 0
        for step, level in enumerate(levels):
            codes[step] = 2 * level - (state & 1) if level else 0
            state = next_states(4)[state, level & 1]
        signed = np.where(small.values < 0, -codes, codes)
        grids = np.repeat(walk(codes, 4), LANES, axis=1)
        forbidden = ((small.values == 0) & (signed != 0)).any(axis=0)
        total = np.where(forbidden, np.inf, cost(small, signed, grids))
        least = np.minimum(least, total)
    reached = cost(small, found.codes, found.grids)
    assert np.allclose(reached, least, rtol=1e-5)


@needs_native
@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_kernel_decides_as_the_reference(states, seed):
    same = problem(steps=700, chains=3 * LANES, seed=seed)
    start = (np.arange(3 * LANES) % states).astype(np.uint8)
    compiled = search_path(same, states, start)
    reference = search_path_reference(same, states, start)
    assert np.array_equal(compiled.codes, reference.codes)
    assert np.array_equal(compiled.grids, reference.grids)
    assert np.array_equal(compiled.states, reference.states)


@pytest.mark.parametrize("search", [search_path, search_path_reference])
def test_chains_go_on_where_they_ended(search):
    weights = problem(steps=80)
    first = search(weights, 8)
    parts = [
        SearchProblem(
            weights.values[:40], None, weights.classes[:40], weights.rates
        )
    ]
    parts.append(
        SearchProblem(
            weights.values[40:], None, weights.classes[40:], weights.rates
        )
    )
    upper = search(parts[0], 8)
    lower = search(parts[1], 8, start=upper.states)
    grids = walk(np.concatenate([upper.codes, lower.codes]), 8)
    assert np.array_equal(grids, np.concatenate([upper.grids, lower.grids]))
    together = cost(weights, first.codes, first.grids).sum()
    apart = cost(parts[0], upper.codes, upper.grids).sum()
    apart += cost(parts[1], lower.codes, lower.grids).sum()
    assert together < apart < 1.1 * together


@needs_native
@pytest.mark.parametrize(
    "change",
    [
        {"values": np.full((4, LANES), np.nan, np.float32)},
        {"values": np.full((4, LANES), 1e9, np.float32)},
        {"classes": np.full((4, LANES), 3, np.uint8)},
    ],
)
def test_the_kernel_refuses_what_it_cannot_index(change):
    fields = {
        "values": np.zeros((4, LANES), np.float32),
        "importance": None,
        "classes": np.zeros((4, LANES), np.uint8),
        "rates": np.zeros((3, 2, 4), np.float32),
    }
    with pytest.raises(ValueError, match=r"malformed"):
        search_path(SearchProblem(**{**fields, **change}), 8)


def test_zeros_stay_zeros_whatever_they_would_save():
    weights = problem(steps=300)
    found = search_path(weights, 8)
    assert not found.codes[weights.values == 0].any()
    assert found.codes[weights.values != 0].any()


def test_levels_beyond_the_table_cost_what_the_last_one_does():
    values = np.full((3, LANES), 4001.0, np.float32)
    flat = SearchProblem(
        values,
        None,
        np.zeros(values.shape, np.uint8),
        np.zeros((1, 2, 4), np.float32),
    )
    for search in (search_path, search_path_reference):
        assert np.abs(search(flat, 8).codes - 4001).max() <= 1


def test_without_the_library_the_reference_serves(monkeypatch):
    monkeypatch.setattr(native, "function", lambda *_: None)
    weights = problem()
    found = search_path(weights, 8)
    assert np.array_equal(found.codes, search_path_reference(weights, 8).codes)


def with_costs(problem, unit=2.0**-8):
    """The same rates, as the cost of every level around each weight."""
    magnitude = np.abs(problem.values)
    costs = np.empty((*problem.values.shape, 2, 4), np.uint16)
    for grid in range(2):
        nearest = ((magnitude + grid) * 0.5).astype(int)
        around = [np.zeros_like(nearest), nearest - 1, nearest, nearest + 1]
        for choice, level in enumerate(around):
            level = level.clip(0, problem.rates.shape[2] - 1)
            rates = problem.rates[problem.classes, grid, level]
            costs[:, :, grid, choice] = np.rint(rates / unit)
    return dataclasses.replace(problem, costs=costs, cost_unit=unit)


@pytest.mark.parametrize("search", [search_path, search_path_reference])
@pytest.mark.parametrize("seed", [0, 1])
def test_costs_of_levels_serve_as_rates_do(search, seed):
    same = problem(seed=seed)
    # Costs are whole, so that both ways add up the same numbers.
    rates = np.rint(same.rates * 256) / np.float32(256)
    same = dataclasses.replace(same, rates=rates.astype(np.float32))
    by_rates, by_costs = search(same, 8), search(with_costs(same), 8)
    assert np.array_equal(by_costs.codes, by_rates.codes)
    assert np.array_equal(by_costs.grids, by_rates.grids)


@needs_native
@pytest.mark.parametrize("states", [4, 128])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_kernel_decides_by_costs_as_the_reference(states, seed):
    same = with_costs(problem(steps=300, chains=2 * LANES, seed=seed), 0.0013)
    same.costs[::7, :, 1, 3] = 65535
    compiled = search_path(same, states)
    reference = search_path_reference(same, states)
    assert np.array_equal(compiled.codes, reference.codes)
    assert np.array_equal(compiled.states, reference.states)


@pytest.mark.parametrize("search", [search_path, search_path_reference])
def test_forbidden_levels_are_not_taken(search):
    free = with_costs(problem(seed=3))
    free.costs[:, :, :, 3] = 65535
    found = search(free, 16)
    nearest = ((np.abs(free.values) + found.grids) * 0.5).astype(int)
    levels = (np.abs(found.codes) + found.grids) >> 1
    assert (levels <= nearest).mean() > 0.95
