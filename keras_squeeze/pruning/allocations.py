"""The contract of an allocation, and the table of those known by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from keras_squeeze.pruning.identifiers import resolve, to_config
from keras_squeeze.pruning.patterns import Pattern
from keras_squeeze.registry import Registry


@runtime_checkable
class Allocation(Protocol):
    """Shares the sparsity of a model out among its kernels.

    A class attribute `needs_scores` that is false says that only the shapes
    count, so that the kernels may be given in place of the scores; without
    the attribute it is taken as true. A method `for_schedule(schedule)`, if
    there is one, gives the allocation to use with that schedule.
    """

    def sparsities(
        self,
        scores: Sequence[NDArray[Any]],
        names: Sequence[str],
        sparsity: float,
        pattern: Pattern,
        channel_axes: Sequence[tuple[int, ...]],
    ) -> list[float]:
        """Gives each kernel its sparsity.

        Args:
            scores: Sequence of arrays, the scores of each kernel.
            names: Sequence of strings, the kernels' paths.
            sparsity: Float in `[0, 1)`. The sparsity of all together.
            pattern: The `Pattern` that will make the masks.
            channel_axes: Sequence of tuples, the output axes of each kernel.

        Returns:
            List of floats in `[0, 1)`, one a kernel.

        Raises:
            SqueezeError: If the sparsity cannot be shared out.
        """
        ...


registry: Registry[Allocation] = Registry("sparsity allocation")


def get(identifier: Any) -> Allocation:
    """Finds the allocation that is meant.

    Args:
        identifier: A name, a dictionary with `"class_name"` and `"config"`,
            a dictionary of regular expressions and sparsities, which is
            `PerLayer`, or an object with a `sparsities` method.

    Returns:
        An `Allocation`.

    Raises:
        UnknownIdentifierError: If there is no allocation of that name.
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get("uniform")
    Uniform(min_weights=1)
    """
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        return registry.create("per_layer", {"sparsities": identifier})
    return resolve(registry, Allocation, identifier)


def serialize(allocation: Allocation) -> dict[str, Any]:
    """The dictionary from which `get` makes an equal allocation.

    Args:
        allocation: An `Allocation` of a registered class.

    Returns:
        Dictionary with `"class_name"` and `"config"`, ready for JSON.

    Raises:
        SqueezeError: If the class is not registered.

    Example:
    >>> serialize(get("global"))
    {'class_name': 'Global', 'config': {'min_weights': 1}}
    """
    return to_config(registry, allocation)
