"""The contract of a criterion, and the table of those known by name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.pruning.identifiers import resolve
from keras_squeeze.registry import Registry


@runtime_checkable
class Criterion(Protocol):
    """Ranks the weights of one kernel by how much they matter."""

    def scores(
        self,
        kernel: NDArray[Any],
        gradient: NDArray[Any] | None = None,
        activation: NDArray[Any] | None = None,
    ) -> NDArray[np.floating[Any]]:
        """Gives each weight a score; the higher, the more it matters.

        Args:
            kernel: Array of floating-point weights, of any shape.
            gradient: Optional array of the kernel's shape.
            activation: Optional array of the layer's inputs.

        Returns:
            Floating-point array of the kernel's shape.
        """
        ...


registry: Registry[Criterion] = Registry("pruning criterion")


def get(identifier: Any) -> Criterion:
    """Finds the criterion that is meant.

    Args:
        identifier: A name, a dictionary with `"class_name"` and `"config"`,
            or an object with a `scores` method.

    Returns:
        A `Criterion`.

    Raises:
        UnknownIdentifierError: If there is no criterion of that name.
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get("magnitude")
    Magnitude()
    """
    return resolve(registry, Criterion, identifier)
