"""The contract of a pattern, and the table of those known by name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.identifiers import resolve, to_config
from keras_squeeze.registry import Registry


@runtime_checkable
class Pattern(Protocol):
    """Chooses which weights of one kernel stay.

    An attribute `max_sparsity` says up to which sparsity the pattern exists;
    a class without it goes up to one weight of a kernel.
    """

    def mask(
        self,
        scores: NDArray[Any],
        sparsity: float,
        channel_axis: tuple[int, ...] = (-1,),
    ) -> NDArray[np.bool_]:
        """Marks the weights that stay.

        Args:
            scores: Array of scores, the higher, the more a weight matters.
            sparsity: Float in `[0, 1)`. The share of weights that go.
            channel_axis: Tuple of integers. The axes of the kernel that index
                its output channels. Defaults to `(-1,)`.

        Returns:
            Boolean array of the scores' shape, true where a weight stays; at
            least one does.

        Raises:
            SqueezeError: If the pattern does not fit the shape, or cannot
                reach the sparsity.
        """
        ...


@runtime_checkable
class GroupedPattern(Pattern, Protocol):
    """A pattern whose weights go in groups that can be ranked over kernels."""

    def group_scores(
        self, scores: NDArray[Any], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.floating[Any]]:
        """Pools the scores of the weights that go together.

        Args:
            scores: Array of scores of one kernel.
            channel_axis: Tuple of integers. The kernel's output axes.
                Defaults to `(-1,)`.

        Returns:
            Array of one dimension, a score a group, without NaN. `mask`
            removes the groups of the lowest scores, and the earlier of equal
            ones.
        """
        ...

    def group_sizes(
        self, shape: tuple[int, ...], channel_axis: tuple[int, ...] = (-1,)
    ) -> NDArray[np.integer[Any]]:
        """Counts the weights that go when a group goes.

        Args:
            shape: Tuple of integers. The kernel's shape.
            channel_axis: Tuple of integers. The kernel's output axes.
                Defaults to `(-1,)`.

        Returns:
            Array of one dimension, in the order of `group_scores`.
        """
        ...


registry: Registry[Pattern] = Registry("sparsity pattern")


def get(identifier: Any) -> Pattern:
    """Finds the pattern that is meant.

    Args:
        identifier: A name, a dictionary with `"class_name"` and `"config"`,
            or an object with a `mask` method.

    Returns:
        A `Pattern`.

    Raises:
        UnknownIdentifierError: If there is no pattern of that name.
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get("unstructured")
    Unstructured(per_channel=False)
    """
    return resolve(registry, Pattern, identifier)


def serialize(pattern: Pattern) -> dict[str, Any]:
    """The dictionary from which `get` makes an equal pattern.

    Args:
        pattern: A `Pattern` of a registered class.

    Returns:
        Dictionary with `"class_name"` and `"config"`, ready for JSON.

    Raises:
        SqueezeError: If the class is not registered.

    Example:
    >>> serialize(get("n_of_m"))
    {'class_name': 'NOfM', 'config': {'n': 2, 'm': 4}}
    """
    return to_config(registry, pattern)
