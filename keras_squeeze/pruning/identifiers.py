"""From a name, a config or an object to the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from keras_squeeze.errors import SqueezeError
from keras_squeeze.registry import Registry

T = TypeVar("T")


def resolve(registry: Registry[T], protocol: Any, identifier: Any) -> T:
    """Looks up what `identifier` means.

    Args:
        registry: The table of names.
        protocol: The runtime-checkable contract that objects must meet.
        identifier: A name, a dictionary with `"class_name"` and `"config"`,
            or an object that meets the contract.

    Returns:
        An object that meets the contract.

    Raises:
        UnknownIdentifierError: If the name is unknown.
        SqueezeError: If `identifier` is none of the above.
    """
    if isinstance(identifier, str):
        return registry.create(identifier.lower())
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        name = str(identifier["class_name"]).lower()
        return registry.create(name, identifier.get("config"))
    if isinstance(identifier, protocol) and not isinstance(identifier, type):
        found: T = identifier
        return found
    raise SqueezeError(
        f"Expected a {registry.kind}: one of the names {sorted(registry)}, a "
        "dictionary with 'class_name' and 'config', or an object of the "
        f"contract {protocol.__name__}. Received: {identifier!r}"
    )
