"""The table of decompositions known by name."""

from __future__ import annotations

from typing import Any

from keras_squeeze.low_rank.decomposition import Bonds, Decomposition
from keras_squeeze.pruning.identifiers import resolve, to_config
from keras_squeeze.registry import Registry

__all__ = ["Bonds", "Decomposition", "get", "registry", "serialize"]

registry: Registry[Decomposition] = Registry("decomposition")


def get(identifier: Any) -> Decomposition:
    """Finds the decomposition that is meant.

    Args:
        identifier: A name, a dictionary with `"class_name"` and `"config"`,
            or a `Decomposition`.

    Returns:
        A `Decomposition`.

    Raises:
        UnknownIdentifierError: If there is no decomposition of that name.
        SqueezeError: If `identifier` is none of the above.

    Example:
    >>> get("svd")
    SVD()
    """
    return resolve(registry, Decomposition, identifier)


def serialize(decomposition: Decomposition) -> dict[str, Any]:
    """The dictionary from which `get` makes an equal decomposition.

    Args:
        decomposition: A `Decomposition` of a registered class.

    Returns:
        Dictionary with `"class_name"` and `"config"`, ready for JSON.

    Raises:
        SqueezeError: If the class is not registered.

    Example:
    >>> serialize(get("svd"))
    {'class_name': 'SVD', 'config': {}}
    """
    return to_config(registry, decomposition)
