"""Ranks for all kernels at once, within one budget."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError
from keras_squeeze.low_rank.kernel_info import Choice, KernelInfo, Skip
from keras_squeeze.low_rank.kernel_options import (
    KernelOptions,
    cost_of,
    kernel_options,
)
from keras_squeeze.low_rank.options import check_min_saving
from keras_squeeze.low_rank.sharing import share_out
from keras_squeeze.schedules.checks import is_number

RESOURCES = ("parameters", "bytes", "flops")


def get(identifier: Any) -> dict[str, int | float]:
    """Finds the budget that is meant.

    Args:
        identifier: A mapping with one of `"parameters"`, `"bytes"` and
            `"flops"` to an integer, what the whole model may have, or a float
            in `(0, 1]`, the share of what it has; or the number alone, for
            parameters. FLOPs are those of one sample, two a multiply-add.

    Returns:
        Dictionary of one item.

    Raises:
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get(0.25)
    {'parameters': 0.25}
    >>> get({"flops": 2_000_000})
    {'flops': 2000000}
    """
    if is_number(identifier):
        identifier = {"parameters": identifier}
    is_mapping = isinstance(identifier, Mapping) and len(identifier) == 1
    if is_mapping and next(iter(identifier)) in RESOURCES:
        ((resource, value),) = identifier.items()
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            if int(value) >= 1:
                return {resource: int(value)}
        elif is_number(value) and 0 < value <= 1:
            return {resource: float(value)}
    raise SqueezeError(
        f"Expected a budget: a mapping with one of {RESOURCES} to an integer "
        "of at least 1, the most that the model may have, or to a float in "
        f"(0, 1], a share of what it has. Received: {identifier!r}"
    )


def choose_within_budget(
    infos: Sequence[KernelInfo],
    kernels: Iterable[NDArray[Any]],
    budget: Any,
    method: Any = "auto",
    min_saving: float = 0.0,
    fixed_cost: int = 0,
    sensitivities: Sequence[float] | None = None,
) -> list[Choice | Skip]:
    """Chooses methods and ranks so that the model keeps a budget.

    Every kernel has its options: to stay whole, or one of the methods at
    ranks that save parameters and multiply-adds. The product of the shares
    of energy that the kernels retain is made large, by steps along the lower
    convex hulls of its logarithm against cost. For small errors that is the
    sum of their relative squares; a kernel that would lose nearly all weighs
    more.

    Args:
        infos: Sequence of `KernelInfo`.
        kernels: Iterable of arrays, one each; read one at a time.
        budget: What `get` takes.
        method: `"auto"`, or what `decompositions.get` takes. Defaults to
            `"auto"`.
        min_saving: Float in `[0, 1)`. The least share of its parameters that
            a kernel must lose, or it stays whole. Defaults to `0.0`.
        fixed_cost: Integer. What all the rest of the model costs, in the unit
            of the budget. Defaults to `0`.
        sensitivities: Optional sequence of floats of at least 0, one a
            kernel, the exponents of its share in the product. Defaults to
            `None`, all one.

    Returns:
        List of `Choice` or `Skip`, one a kernel.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the budget cannot be met; the message names the
            smallest that can. If FLOPs are to be counted and a kernel's
            `positions` are not known, or an argument is not as described.

    Example:
    >>> import numpy as np
    >>> infos = [KernelInfo(name, (32, 32), "matrix") for name in "ab"]
    >>> values = np.arange(1.0, 33.0)
    >>> kernels = [np.diag(1 / values), np.diag(1 / np.sqrt(values))]
    >>> found = choose_within_budget(infos, kernels, {"parameters": 0.5})
    >>> [choice.ranks for choice in found]
    [(3,), (13,)]

    References:
        [Zhang et al., 2015](https://arxiv.org/abs/1505.06798)
    """
    ((resource, amount),) = get(budget).items()
    min_saving = check_min_saving(min_saving)
    weights = _checked_sensitivities(sensitivities, len(infos))
    befores = [cost_of(info, resource, info.size, info.macs) for info in infos]
    pairs = zip(infos, kernels, strict=True)
    tables = [
        kernel_options(i, k, resource, method, min_saving) for i, k in pairs
    ]
    total = fixed_cost + sum(befores)
    limit = amount if isinstance(amount, int) else math.floor(amount * total)
    _check_reachable(tables, fixed_cost, total, limit, {resource: amount})
    losses = [w * t.losses for w, t in zip(weights, tables, strict=True)]
    costs = [table.costs for table in tables]
    picked = share_out(costs, losses, limit - fixed_cost)
    return [t.result(option) for t, option in zip(tables, picked, strict=True)]


def _check_reachable(
    tables: Sequence[KernelOptions],
    fixed_cost: int,
    total: int,
    limit: int,
    budget: Mapping[str, int | float],
) -> None:
    least = fixed_cost + sum(int(table.costs.min()) for table in tables)
    if least > limit:
        (resource,) = budget
        raise SqueezeError(
            f"Expected a budget of at least {least:,} {resource}, "
            f"{math.ceil(1e4 * least / total) / 1e4:g} of the {total:,} that "
            "the model has: the smallest that the chosen layers and methods "
            f"reach. Received: budget={dict(budget)!r}, which is {limit:,}"
        )


def _checked_sensitivities(
    sensitivities: Sequence[float] | None, count: int
) -> list[float]:
    if sensitivities is None:
        return [1.0] * count
    values = [float(value) for value in sensitivities]
    if len(values) == count and all(0 <= v < math.inf for v in values):
        return values
    raise SqueezeError(
        f"Expected {count} finite `sensitivities` of at least 0, one a "
        f"kernel. Received: {sensitivities!r}"
    )
