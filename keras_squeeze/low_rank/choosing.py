"""The method and the ranks for one kernel."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from keras_squeeze.low_rank import rank_rules
from keras_squeeze.low_rank.decomposition import Decomposition
from keras_squeeze.low_rank.fixed_rank import FixedRank
from keras_squeeze.low_rank.kernel_info import Choice, KernelInfo, Skip
from keras_squeeze.low_rank.options import (
    Spectra,
    check_min_saving,
    checked_kernel,
    make_choice,
    methods_for,
)
from keras_squeeze.low_rank.prices import price, rank_grid, saves
from keras_squeeze.low_rank.rank_rules import RankRule

_REFERENCE = "channel_svd"


def choose(
    info: KernelInfo,
    kernel: NDArray[Any],
    rule: Any,
    method: Any = "auto",
    min_saving: float = 0.0,
) -> Choice | Skip:
    """Chooses how to factorize a kernel, or not to.

    A kernel is factorized only where that saves parameters and multiply-adds;
    an embedding, whose look-up costs none, where it saves parameters.

    Among several methods a rule that reads the spectrum gives each its ranks,
    and the cheapest in parameters plus multiply-adds wins, each as a share of
    the kernel's. Where the rank is given instead, it is the one of a channel
    SVD; the others get what costs no more, and the least error wins.

    Args:
        info: The kernel's `KernelInfo`.
        kernel: Array of floating-point weights, of the shape in `info`.
        rule: What `rank_rules.get` takes: an integer, a fraction, a name, a
            `RankRule`.
        method: `"auto"`, or what `decompositions.get` takes. A CP
            decomposition has to be asked for by name. Defaults to `"auto"`.
        min_saving: Float in `[0, 1)`. The least share of its parameters that
            must go. Defaults to `0.0`.

    Returns:
        `Choice`; or `Skip`, with the reason.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If an argument is none of the above.

    Example:
    >>> import numpy as np
    >>> info = KernelInfo("hidden", (64, 32), "matrix")
    >>> chosen = choose(info, np.ones((64, 32), "float32"), rule=4)
    >>> chosen.method, chosen.ranks, chosen.parameters
    ('svd', (4,), 384)
    """
    rule = rank_rules.get(rule)
    min_saving = check_min_saving(min_saving)
    kernel = checked_kernel(info, kernel)
    known = methods_for(info, method)
    if isinstance(known, Skip):
        return known
    known = _with_as_many_ranks(known, rule)
    spectra = {each.name: each.spectra(kernel) for each in known}
    if rule.reads_spectrum or len(known) == 1:
        found = [_by_rule(e, info, spectra[e.name], rule) for e in known]
        found.sort(key=lambda choice: (choice.cost, choice.error))
    else:
        found = _at_equal_cost(known, info, spectra, rule, min_saving)
    chosen = _first_that_saves(found, info, min_saving)
    if isinstance(chosen, Skip) and isinstance(rule, FixedRank):
        return _with_the_rank_asked_for(chosen, info, rule)
    return chosen


def _with_as_many_ranks(
    known: list[Decomposition], rule: RankRule
) -> list[Decomposition]:
    """Those with as many ranks as the rule names; all if it names none."""
    named = getattr(rule, "rank_count", None)
    return [e for e in known if e.rank_count == named] or known


def _by_rule(
    decomposition: Decomposition,
    info: KernelInfo,
    spectra: Spectra,
    rule: RankRule,
) -> Choice:
    sizes = decomposition.unfoldings(info.shape)
    ranks = rule.ranks(spectra, sizes)
    return make_choice(decomposition, info, spectra, ranks)


def _at_equal_cost(
    known: list[Decomposition],
    info: KernelInfo,
    spectra: dict[str, Spectra],
    rule: RankRule,
    min_saving: float,
) -> list[Choice]:
    """One choice a method, none dearer than the first; least error first."""
    by_name = {each.name: each for each in known}
    reference = by_name.get(_REFERENCE, known[0])
    first = _by_rule(reference, info, spectra[reference.name], rule)
    found = [first]
    for each in known:
        if each is not reference:
            mine = spectra[each.name]
            found += _best_within(each, info, mine, first.cost, min_saving)
    return sorted(found, key=lambda choice: (choice.error, choice.cost))


def _best_within(
    decomposition: Decomposition,
    info: KernelInfo,
    spectra: Spectra,
    cost: float,
    min_saving: float,
) -> list[Choice]:
    """The choice of least error that saves at that cost, or none."""

    def fits(ranks: tuple[int, ...]) -> bool:
        prices = price(decomposition, info, ranks)
        share = prices[1] / info.macs if info.macs else 0.0
        cheap = prices[0] / info.size + share <= cost
        return cheap and saves(info, prices, min_saving)

    limits = decomposition.max_ranks(info.shape)
    choices = [
        make_choice(decomposition, info, spectra, ranks)
        for ranks in rank_grid(limits, fits)
    ]
    return [min(choices, key=lambda c: c.error)] if choices else []


def _first_that_saves(
    found: list[Choice], info: KernelInfo, min_saving: float
) -> Choice | Skip:
    for choice in found:
        if saves(info, (choice.parameters, choice.macs), min_saving):
            return choice
    cheapest = min(found, key=lambda choice: choice.cost)
    return Skip(info.path, reason_not_saving(cheapest, info, min_saving))


def _with_the_rank_asked_for(
    skip: Skip, info: KernelInfo, rule: FixedRank
) -> Skip:
    asked, full = (
        max(rule.given),
        min(math.prod(info.shape[:-1]), info.shape[-1]),
    )
    if asked <= full:
        return skip
    above = f"rank {asked} is above {full}, that of the matrix; "
    return Skip(skip.path, above + skip.reason)


def reason_not_saving(
    choice: Choice, info: KernelInfo, min_saving: float
) -> str:
    """Says in numbers why a choice is not worth it.

    Args:
        choice: A `Choice` that saves too little.
        info: The kernel's `KernelInfo`.
        min_saving: Float. The least share of its parameters to save.

    Returns:
        String.
    """
    ranks = ", ".join(str(rank) for rank in choice.ranks)
    text = (
        f"{choice.method} at rank {ranks} takes {choice.parameters:,} "
        f"parameters instead of {choice.parameters_before:,}"
    )
    if info.nonzero is not None:
        text += f", of which {info.nonzero:,} are not zero"
    if info.kind != "embedding":
        text += (
            f" and {choice.macs:,} multiply-adds a position instead of "
            f"{choice.macs_before:,}"
        )
    if saves(info, (choice.parameters, choice.macs), 0.0):
        text += f", a saving of {choice.saving:.3f}; wanted {min_saving:g}"
    return text
