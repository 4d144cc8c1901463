"""The arguments of a pruning, checked and resolved."""

from __future__ import annotations

import dataclasses
import numbers
import re
from typing import Any

from keras_squeeze import schedules
from keras_squeeze.errors import SqueezeError
from keras_squeeze.pruning import allocations, criteria, patterns, regrowths
from keras_squeeze.pruning.allocations import Allocation
from keras_squeeze.pruning.criteria import Criterion
from keras_squeeze.pruning.patterns import Pattern
from keras_squeeze.pruning.regrowths import Regrowth
from keras_squeeze.schedules import Schedule
from keras_squeeze.surgery.layer_tree import Filters


@dataclasses.dataclass(frozen=True)
class PruningPlan:
    """What to prune, when, how much, and by which rule.

    Args:
        schedule: `Schedule`.
        criterion: `Criterion`.
        pattern: `Pattern`.
        allocation: `Allocation`.
        regrowth: `Regrowth` or `None`.
        filters: Regex, callable `layer -> bool`, or `None`.
        frequency: Integer. Steps between changes of the masks.
        seed: Integer.
    """

    schedule: Schedule
    criterion: Criterion
    pattern: Pattern
    allocation: Allocation
    regrowth: Regrowth | None
    filters: Filters
    frequency: int
    seed: int

    @property
    def keeps_pruned_weights(self) -> bool:
        """Whether pruned weights keep the values they would have."""
        return bool(getattr(self.regrowth, "keeps_pruned_weights", False))

    @property
    def statistics(self) -> tuple[str, ...]:
        """The names of all statistics that criterion and regrowth need."""
        names = (*needed(self.criterion), *needed(self.regrowth))
        return tuple(dict.fromkeys(names))


def make_plan(
    schedule: Any,
    criterion: Any,
    pattern: Any,
    allocation: Any,
    regrowth: Any,
    filters: Any,
    frequency: Any,
    seed: Any,
) -> PruningPlan:
    """Resolves names and configs, and checks what can be checked.

    Args:
        schedule: Whatever `schedules.get` takes.
        criterion: Whatever `criteria.get` takes.
        pattern: Whatever `patterns.get` takes.
        allocation: Whatever `allocations.get` takes.
        regrowth: Whatever `regrowths.get` takes, or `None`.
        filters: Regex, callable `layer -> bool`, or `None`.
        frequency: Integer of at least 1; the schedule's own goes before it.
        seed: Integer of at least 0.

    Returns:
        `PruningPlan`.

    Raises:
        SqueezeError: If an argument is none of that, or two do not go
            together.
    """
    found = schedules.get(schedule)
    plan = PruningPlan(
        found,
        criteria.get(criterion),
        patterns.get(pattern),
        _for_schedule(allocations.get(allocation), found),
        None if regrowth is None else regrowths.get(regrowth),
        check_filters(filters),
        _check_integer("frequency", found.frequency or frequency, 1),
        _check_integer("seed", seed, 0),
    )
    if plan.regrowth is not None:
        regrowths.check_pattern(plan.regrowth, plan.pattern)
    return plan


def needed(user: Any) -> tuple[str, ...]:
    """The statistics that a criterion or a regrowth asks for."""
    return tuple(getattr(user, "statistics", ()))


def check_filters(filters: Any) -> Filters:
    """Returns `filters`, or raises `SqueezeError`."""
    problem = ""
    if isinstance(filters, str):
        try:
            re.compile(filters)
        except re.error as error:
            problem = f" ({error})"
    if not problem and (isinstance(filters, str | None) or callable(filters)):
        checked: Filters = filters
        return checked
    raise SqueezeError(
        "Expected `filters` to be None, a regex or a callable(layer) -> bool"
        f"{problem}. Received: {filters!r}"
    )


def _for_schedule(allocation: Allocation, schedule: Schedule) -> Allocation:
    adapt = getattr(allocation, "for_schedule", None)
    if adapt is None:
        return allocation
    adapted: Allocation = adapt(schedule)
    return adapted


def _check_integer(name: str, value: Any, least: int) -> int:
    whole = isinstance(value, numbers.Real) and float(value).is_integer()
    if not whole or isinstance(value, bool) or value < least:
        raise SqueezeError(
            f"Expected `{name}` to be an integer of at least {least}. "
            f"Received: {value!r}"
        )
    return int(value)
