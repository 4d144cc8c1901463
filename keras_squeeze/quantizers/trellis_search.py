"""The Viterbi search of trellis-coded quantization.

Among all codes the machine of `codecs.trellis` allows, it finds those of the
least sum of weighted squared error and rate. Chains are columns and advance
side by side. The reference in NumPy and the compiled kernel do the same
operations on float32 in the same order, so they take the same decisions.

References:
    - Forney, The Viterbi algorithm, 1973.
    - Fischer and Wang, Entropy-constrained trellis-coded quantization, 1992.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_squeeze import native
from keras_squeeze.codecs.context_mixing_costs import (
    LARGEST_COST,
    NEAREST,
    ZERO,
)
from keras_squeeze.codecs.trellis import next_states
from keras_squeeze.quantizers.trellis_chains import LANES

_UNREACHABLE = np.float32(1e30)
_WORD_BITS = 32
_RENORMALIZE_EVERY = 16
# Choices of so many steps are computed in one go.
_STEPS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True, eq=False)
class SearchProblem:
    """What the search needs to know, all arrays C-contiguous.

    Args:
        values: float32 array of shape `(steps, chains)`, weights in units of
            the grid, magnitudes at most 65536. A zero keeps the code 0.
        importance: float32 array of the same shape, factors of the squared
            error, or `None` for ones.
        classes: uint8 array of the same shape, rows of `rates`.
        rates: float32 array of shape `(classes, 2, levels)`: the cost of a
            level on either grid in units of squared error. Larger levels cost
            what the last one does.
        costs: Optional uint16 array of shape `(steps, chains, 2, 4)` that
            replaces classes and rates: the costs of each weight's levels, as
            `codecs.context_mixing_costs` has them; 65535 forbids one.
            Defaults to `None`.
        cost_unit: Float, the squared error that a cost of 1 stands for.
            Defaults to `0.0`.
    """

    values: NDArray[np.float32]
    importance: NDArray[np.float32] | None
    classes: NDArray[np.uint8]
    rates: NDArray[np.float32]
    costs: NDArray[np.uint16] | None = None
    cost_unit: float = 0.0


class Path(NamedTuple):
    """What the search finds.

    Args:
        codes: int32 array of shape `(steps, chains)`.
        grids: uint8 array of the same shape, the grid each code lies on.
        states: uint8 array of shape `(chains,)`, where the chains end.
    """

    codes: NDArray[np.int32]
    grids: NDArray[np.uint8]
    states: NDArray[np.uint8]


def search_path(
    problem: SearchProblem,
    states: int,
    start: NDArray[np.uint8] | None = None,
) -> Path:
    """Finds the path of the least cost.

    Args:
        problem: `SearchProblem`; chains in a multiple of `LANES`.
        states: Integer, one of `codecs.trellis.STATES`.
        start: Optional uint8 array of shape `(chains,)`, the states the
            chains begin in. Defaults to 0 for all.

    Returns:
        `Path`.
    """
    if _kernel() is None or _costs_kernel() is None:
        return search_path_reference(problem, states, start)
    steps, chains = problem.values.shape
    words = -(-states // _WORD_BITS)
    decisions = np.empty(steps * LANES * words, np.uint32)
    picks = np.empty(steps * LANES, np.uint8)
    found = Path(
        np.empty((steps, chains), np.int32),
        np.empty((steps, chains), np.uint8),
        _start(start, chains),
    )
    given = problem.values, problem.importance
    memory = decisions, picks, found.states, found.codes, found.grids
    if problem.costs is None:
        failed = _kernel()(
            *map(_address, (*given, problem.classes, problem.rates)),
            *(steps, chains, len(problem.rates), problem.rates.shape[2] - 1),
            *(_address(next_states(states)), states),
            *map(_address, memory),
        )
    else:
        failed = _costs_kernel()(
            *map(_address, (*given, problem.costs)),
            *(problem.cost_unit, steps, chains),
            *(_address(next_states(states)), states),
            *map(_address, memory),
        )
    if failed:
        raise ValueError(f"a malformed problem of shape {(steps, chains)}")
    return found


def _start(start: NDArray[np.uint8] | None, chains: int) -> NDArray[np.uint8]:
    return np.zeros(chains, np.uint8) if start is None else start.copy()


def _kernel() -> Any:
    pointers = (ctypes.c_void_p,) * 4
    sizes = (ctypes.c_int64, ctypes.c_int64, ctypes.c_int32, ctypes.c_int32)
    machine = (ctypes.c_void_p, ctypes.c_int32)
    results = (ctypes.c_void_p,) * 5
    return native.function(
        "ks_trellis_search",
        ctypes.c_int,
        (*pointers, *sizes, *machine, *results),
    )


def _costs_kernel() -> Any:
    pointers = (ctypes.c_void_p,) * 3
    sizes = (ctypes.c_float, ctypes.c_int64, ctypes.c_int64)
    machine = (ctypes.c_void_p, ctypes.c_int32)
    results = (ctypes.c_void_p,) * 5
    return native.function(
        "ks_trellis_search_costs",
        ctypes.c_int,
        (*pointers, *sizes, *machine, *results),
    )


def _address(array: NDArray[Any] | None) -> int | None:
    if array is None:
        return None
    # `array.ctypes` takes three times as long, for every input of a layer.
    address: int = array.__array_interface__["data"][0]
    return address


@functools.cache
def _origins(states: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The two states before each one, and the branches taken from them."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(states)]
    machine = next_states(states)
    for state in range(states):
        for parity in range(2):
            branch = 2 * (state & 1) + parity
            found[machine[state, parity]].append((state, branch))
    both = np.array(found, np.intp)
    return both[:, :, 0].T.copy(), both[:, :, 1].T.copy()


def search_path_reference(
    problem: SearchProblem,
    states: int,
    start: NDArray[np.uint8] | None = None,
) -> Path:
    """The same search in NumPy.

    Args:
        problem: `SearchProblem`.
        states: Integer, one of `codecs.trellis.STATES`.
        start: Optional uint8 array of shape `(chains,)`. Defaults to zeros.

    Returns:
        `Path`.
    """
    steps, chains = problem.values.shape
    origins, branches = _origins(states)
    costs = np.full((states, chains), _UNREACHABLE)
    costs[_start(start, chains), np.arange(chains)] = 0
    decisions = np.empty((steps, states, chains), bool)
    levels = np.empty((4, steps, chains), np.int32)
    for first_step in range(0, steps, _STEPS_AT_ONCE):
        part = slice(first_step, min(first_step + _STEPS_AT_ONCE, steps))
        choice_costs = np.empty((4, part.stop - part.start, chains), np.float32)
        for branch in range(4):
            choice_costs[branch], levels[branch, part] = _choices(
                problem, part, branch >> 1, branch & 1
            )
        for step in range(part.start, part.stop):
            step_costs = choice_costs[:, step - part.start]
            first = costs[origins[0]] + step_costs[branches[0]]
            second = costs[origins[1]] + step_costs[branches[1]]
            np.less(second, first, out=decisions[step])
            costs = np.minimum(first, second)
            if step % _RENORMALIZE_EVERY == _RENORMALIZE_EVERY - 1:
                costs -= costs.min(axis=0)
    return _trace_back(problem, costs, decisions, levels)


def _trace_back(
    problem: SearchProblem,
    costs: NDArray[np.float32],
    decisions: NDArray[np.bool_],
    levels: NDArray[np.int32],
) -> Path:
    steps, chains = problem.values.shape
    origins, branches = _origins(len(costs))
    state = costs.argmin(axis=0)
    ends = state.astype(np.uint8)
    lane = np.arange(chains)
    codes = np.empty((steps, chains), np.int32)
    grids = np.empty((steps, chains), np.uint8)
    for step in range(steps - 1, -1, -1):
        taken = decisions[step, state, lane].astype(np.intp)
        branch = branches[taken, state]
        level = levels[branch, step, lane]
        grids[step] = branch >> 1
        codes[step] = np.where(level > 0, 2 * level - (branch >> 1), 0)
        state = origins[taken, state]
    codes = np.where(problem.values < 0, -codes, codes)
    return Path(codes, grids, ends)


def _choices(
    problem: SearchProblem, part: slice, grid: int, parity: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Costs and levels of the cheapest level of a grid and a parity."""
    magnitude = np.abs(problem.values[part])
    below = ((magnitude + np.float32(grid)) * np.float32(0.5)).astype(np.int32)
    same = (below & 1) == parity
    level = np.where(same, below, below + 1)
    cost = _level_costs(problem, part, grid, level)
    others = np.where(~same & (below > 0), below - 1, level)
    candidates = [others, np.zeros_like(level)] if parity == 0 else [others]
    for other in candidates:
        other_cost = _level_costs(problem, part, grid, other)
        better = other_cost < cost
        cost = np.where(better, other_cost, cost)
        level = np.where(better, other, level)
    if parity:
        # A pruned weight stays pruned.
        cost = np.where(magnitude == 0, _UNREACHABLE, cost)
    return cost, level


def _level_costs(
    problem: SearchProblem,
    part: slice,
    grid: int,
    level: NDArray[np.int32],
) -> NDArray[np.float32]:
    point = np.where(level > 0, 2 * level - grid, 0).astype(np.float32)
    error = np.abs(problem.values[part]) - point
    distortion = error * error
    if problem.importance is not None:
        distortion = problem.importance[part] * distortion
    cost: NDArray[np.float32] = distortion + _rates(problem, part, grid, level)
    return cost


def _rates(
    problem: SearchProblem,
    part: slice,
    grid: int,
    level: NDArray[np.int32],
) -> NDArray[np.float32]:
    if problem.costs is None:
        largest = problem.rates.shape[2] - 1
        of_classes: NDArray[np.float32] = problem.rates[
            problem.classes[part], grid, np.minimum(level, largest)
        ]
        return of_classes
    magnitude = np.abs(problem.values[part])
    nearest = ((magnitude + np.float32(grid)) * np.float32(0.5)).astype(int)
    choice = np.where(level > 0, NEAREST + level - nearest, ZERO)
    costs = problem.costs[part, :, grid]
    cost = np.take_along_axis(costs, choice[..., None], 2)[..., 0]
    rates = cost.astype(np.float32) * np.float32(problem.cost_unit)
    return np.where(cost == LARGEST_COST, _UNREACHABLE, rates)
