"""Which layers of a model are factorized, how, and at which rank."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.factorizing.candidates import (
    Candidate,
    itemsize,
    select_candidates,
)
from keras_squeeze.layers.canonical_kernels import canonical_kernel
from keras_squeeze.low_rank import budget as budgets
from keras_squeeze.low_rank import decompositions, rank_rules
from keras_squeeze.low_rank.choosing import choose
from keras_squeeze.low_rank.energy import Energy
from keras_squeeze.low_rank.kernel_info import Choice, KernelInfo, Skip
from keras_squeeze.low_rank.options import check_min_saving
from keras_squeeze.shrinking.macs import count_macs
from keras_squeeze.shrinking.tracing import graph_of
from keras_squeeze.surgery.layer_tree import (
    Filters,
    check_built,
    walk_layers,
)

DEFAULT_ENERGY = 0.9

Planned = tuple[str, Any, Choice | Skip]


def check_arguments(
    rank: Any = None,
    energy: float | None = None,
    budget: Any = None,
    method: Any = "auto",
    min_saving: float = 0.0,
) -> None:
    """Raises `SqueezeError` unless the arguments of `plan_layers` are right.

    Args:
        rank: As in `plan_layers`.
        energy: As in `plan_layers`.
        budget: As in `plan_layers`.
        method: As in `plan_layers`.
        min_saving: As in `plan_layers`.
    """
    given = {"rank": rank, "energy": energy, "budget": budget}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        pairs = (f"{name}={value!r}" for name, value in given.items())
        raise SqueezeError(
            "Expected one of `rank`, `energy` and `budget`. "
            f"Received: {', '.join(pairs)}"
        )
    if method != "auto":
        decompositions.get(method)
    check_min_saving(min_saving)
    if budget is not None:
        budgets.get(budget)
    else:
        _rules(rank, energy)


def plan_layers(
    model: Any,
    rank: Any = None,
    energy: float | None = None,
    budget: Any = None,
    method: Any = "auto",
    filters: Filters = None,
    min_saving: float = 0.0,
    keep_sparsity: bool = False,
) -> list[Planned]:
    """Decides for every layer with a kernel whether and how to factorize it.

    Args:
        model: A built `keras.Model`; it is not changed.
        rank: Integer, float in (0, 1], name, config or object of a rank
            rule, or a mapping of regexes, searched in the kernels' paths, to
            any of these; the first that is found counts. Defaults to `None`.
        energy: Float in (0, 1]. Defaults to `None`.
        budget: Float or mapping, as `budget.get` takes it. Defaults to
            `None`. With none of the three, energy is 0.9.
        method: `"auto"`, or what `decompositions.get` takes. Defaults to
            `"auto"`.
        filters: Optional regex searched in the kernel's path, or callable
            `layer -> bool`. Defaults to `None`, all.
        min_saving: Float in [0, 1). Defaults to `0.0`.
        keep_sparsity: Boolean. Whether factors must have fewer weights than a
            kernel has that are not zero. Defaults to `False`.

    Returns:
        List of tuples of a layer's path, the layer, and a `Choice` or a
        `Skip`, in model order.

    Raises:
        NoKernelMatchedError: If no kernel is left; the message lists the
            candidates.
        NonFiniteError: If a kernel holds NaN or infinity.
        SqueezeError: If an argument is out of its range, or the budget cannot
            be met.
        UnbuiltModelError: If the model has no variables yet.
    """
    check_arguments(rank, energy, budget, method, min_saving)
    check_built(model)
    order = {path: i for i, (path, _) in enumerate(walk_layers(model))}
    layers = dict(walk_layers(model))
    candidates, skips = select_candidates(model, filters, method, keep_sparsity)
    decided: list[Choice | Skip] = [*skips]
    if budget is not None:
        decided += _within(model, candidates, budget, method, min_saving)
    else:
        rules = _rules(rank, energy)
        decided += [
            _by_rule(each, rules, method, min_saving) for each in candidates
        ]
    decided.sort(key=lambda each: order[each.path])
    return [(each.path, layers[each.path], each) for each in decided]


def factors_of(
    layer: Any, choice: Choice, seed: int = 0
) -> tuple[NDArray[Any], ...]:
    """The factors of a layer's kernel, as a choice says.

    Args:
        layer: A layer that can be factorized; it is not changed.
        choice: Its `Choice`.
        seed: Integer. Of the random matrix that a large kernel is multiplied
            with. Defaults to `0`.

    Returns:
        Tuple of arrays, as the decomposition gives them.
    """
    decomposition = decompositions.get(choice.method)
    return decomposition.decompose(canonical_kernel(layer), choice.ranks, seed)


def _rules(rank: Any, energy: float | None) -> dict[str, Any]:
    """Rules by the regex of the paths that they are for."""
    if rank is None:
        energy = DEFAULT_ENERGY if energy is None else energy
        return {"": Energy(energy)}
    if not isinstance(rank, Mapping) or "class_name" in rank:
        return {"": rank_rules.get(rank)}
    try:
        for pattern in rank:
            re.compile(pattern)
    except (TypeError, re.error) as error:
        raise SqueezeError(
            "Expected the keys of `rank` to be regexes of paths. "
            f"Received: {pattern!r} ({error})"
        ) from error
    return {key: rank_rules.get(rule) for key, rule in rank.items()}


def _by_rule(
    candidate: Candidate,
    rules: Mapping[str, Any],
    method: Any,
    min_saving: float,
) -> Choice | Skip:
    kernel, info = candidate.kernel, candidate.info
    for pattern, rule in rules.items():
        if re.search(pattern, kernel.path):
            values = canonical_kernel(kernel.layer)
            return choose(info, values, rule, method, min_saving)
    return Skip(info.path, f"not matched by a regex of `rank`: {list(rules)}")


def _within(
    model: Any,
    candidates: list[Candidate],
    budget: Any,
    method: Any,
    min_saving: float,
) -> list[Choice | Skip]:
    """Choices for all candidates, so that the whole model keeps a budget."""
    (resource,) = budgets.get(budget)
    skips: list[Choice | Skip] = []
    if resource == "flops":
        candidates, skips = _counted(model, candidates)
    infos = [candidate.info for candidate in candidates]
    kernels = (canonical_kernel(c.kernel.layer) for c in candidates)
    fixed = _fixed_cost(model, resource, infos)
    return skips + budgets.choose_within_budget(
        infos, kernels, budget, method, min_saving, fixed_cost=fixed
    )


def _counted(
    model: Any, candidates: list[Candidate]
) -> tuple[list[Candidate], list[Choice | Skip]]:
    """The candidates whose operations can be counted, and the others."""
    if graph_of(model) is None:
        raise SqueezeError(
            "Expected a Sequential or Functional model for a budget in FLOPs, "
            "which are counted on its graph; give the budget in parameters "
            f"or bytes. Received: {model.name!r} of type {type(model).__name__}"
        )
    reason = "a class of the user's calls it: its FLOPs are not known"
    known = [each for each in candidates if each.info.positions is not None]
    skips: list[Choice | Skip] = [
        Skip(each.info.path, reason)
        for each in candidates
        if each.info.positions is None
    ]
    return known, skips


def _fixed_cost(model: Any, resource: str, infos: list[KernelInfo]) -> int:
    """What all but the candidates' kernels cost, in the budget's unit."""
    if resource == "flops":
        macs = sum(info.macs * (info.positions or 0) for info in infos)
        return 2 * max(0, sum(count_macs(model).values()) - macs)
    if resource == "parameters":
        return int(model.count_params()) - sum(info.size for info in infos)
    kernels = sum(info.size * info.itemsize for info in infos)
    return sum(_num_bytes(variable) for variable in model.weights) - kernels


def _num_bytes(variable: Any) -> int:
    return int(math.prod(variable.shape)) * itemsize(variable)
