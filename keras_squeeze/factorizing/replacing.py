"""Low-rank layers put into a model that is in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from keras_squeeze.layers.canonical_kernels import (
    canonical_factors,
    factors_to_canonical,
    from_canonical,
    to_canonical,
)
from keras_squeeze.layers.factor_chain import factor_variable
from keras_squeeze.layers.low_rank_conversion import (
    change_ranks,
    convert_to_low_rank,
)
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.low_rank import decompositions
from keras_squeeze.low_rank.bonds import map_moments
from keras_squeeze.surgery.live_change import change_live
from keras_squeeze.surgery.moment_projection import map_slots, read_slots

Array = NDArray[Any]
Slots = dict[str, list[Array]]


@dataclasses.dataclass(frozen=True)
class Replacement:
    """What a layer is to become.

    Args:
        path: String. The layer's path.
        layer: The layer, still with its kernel or with larger factors.
        method: String. Name of the decomposition.
        factors: Tuple of arrays, as the decomposition gives them.
        slots: Dictionary of an optimizer's attribute and an array a factor,
            in the shapes of `factors`. Defaults to none: fresh slots.
    """

    path: str
    layer: Any
    method: str
    factors: tuple[Array, ...]
    slots: Slots = dataclasses.field(default_factory=dict)


def replacement(
    model: Any,
    path: str,
    layer: Any,
    method: str,
    factors: tuple[Array, ...],
    carry: bool = True,
) -> Replacement:
    """Prepares the change of a layer with a kernel.

    Args:
        model: The `keras.Model` in training.
        path: String. The layer's path.
        layer: A layer that can be factorized.
        method: String. Name of the decomposition.
        factors: Tuple of arrays, as the decomposition gives them.
        carry: Boolean. Whether the optimizer's momenta are handed on.

    Returns:
        `Replacement`.
    """
    if not carry:
        return Replacement(path, layer, method, factors)
    decomposition = decompositions.get(method)

    def project(moments: Sequence[Array], squared: bool) -> Sequence[Array]:
        canonical = to_canonical(layer, moments[0])
        return decomposition.project(canonical, factors, squared)

    found = read_slots(_optimizer(model), factor_variable(layer))
    slots = {name: [slot] for name, slot in found.items()}
    return Replacement(path, layer, method, factors, map_slots(slots, project))


def truncation(
    model: Any,
    path: str,
    layer: Any,
    ranks: Sequence[int],
    carry: bool = True,
) -> Replacement:
    """Prepares the fall of a low-rank layer's ranks.

    Args:
        model: The `keras.Model` in training.
        path: String. The layer's path.
        layer: A low-rank layer.
        ranks: Sequence of integers, none above the layer's own.
        carry: Boolean. Whether the optimizer's momenta are handed on.

    Returns:
        `Replacement`.
    """
    decomposition = decompositions.get(layer.method)
    factors, bonds = decomposition.retruncate(canonical_factors(layer), ranks)
    if not carry:
        return Replacement(path, layer, layer.method, factors)
    found = [
        read_slots(_optimizer(model), factor_variable(factor))
        for factor in layer.factors
    ]
    names = set(found[0]).intersection(*found[1:])

    def map_all(moments: Sequence[Array], squared: bool) -> Sequence[Array]:
        canonical = factors_to_canonical(layer, moments)
        return map_moments(decomposition, canonical, bonds, squared)

    slots = {name: [each[name] for each in found] for name in sorted(names)}
    return Replacement(
        path, layer, layer.method, factors, map_slots(slots, map_all)
    )


def apply_replacements(model: Any, changes: Iterable[Replacement]) -> None:
    """Changes layers of a model in training, and its optimizer with them.

    Everything that can fail was done when the changes were prepared.

    Args:
        model: The `keras.Model`, compiled or not.
        changes: Iterable of `Replacement`.
    """

    def convert() -> dict[int, dict[str, Array]]:
        slots: dict[int, dict[str, Array]] = {}
        for change in changes:
            slots |= _slots_by_variable(change, _convert(change).added)
        return slots

    change_live(model, convert)


def _convert(change: Replacement) -> Any:
    if isinstance(change.layer, LowRankLayer):
        return change_ranks(change.layer, change.factors)
    return convert_to_low_rank(change.layer, change.method, change.factors)


def _slots_by_variable(
    change: Replacement, added: Sequence[Any]
) -> dict[int, dict[str, Array]]:
    found: dict[int, dict[str, Array]] = {id(v): {} for v in added}
    for name, arrays in change.slots.items():
        shaped = from_canonical(change.layer, change.method, arrays)
        for variable, array in zip(added, shaped, strict=True):
            found[id(variable)][name] = array
    return found


def _optimizer(model: Any) -> Any:
    return getattr(model, "optimizer", None)
