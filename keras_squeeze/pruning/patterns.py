"""The contract of a pattern, and the table of those known by name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.identifiers import resolve
from keras_squeeze.registry import Registry


@runtime_checkable
class Pattern(Protocol):
    """Chooses which weights of one kernel stay."""

    def mask(self, scores: NDArray[Any], sparsity: float) -> NDArray[np.bool_]:
        """Marks the weights that stay.

        Args:
            scores: Array of scores, the higher, the more a weight matters.
            sparsity: Float in `[0, 1)`. The share of weights that go.

        Returns:
            Boolean array of the scores' shape, true where a weight stays.
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
    Unstructured()
    """
    return resolve(registry, Pattern, identifier)
