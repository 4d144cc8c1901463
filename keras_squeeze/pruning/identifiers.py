"""From a name, a config or an object to the object, and back to a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from keras_squeeze.errors import SqueezeError
from keras_squeeze.registry import Registry
from keras_squeeze.schedules.identifiers import snake_case

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
        return registry.create(_registered_name(registry, identifier))
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        name = _registered_name(registry, str(identifier["class_name"]))
        return registry.create(name, identifier.get("config"))
    if isinstance(identifier, protocol) and not isinstance(identifier, type):
        found: T = identifier
        return found
    raise SqueezeError(
        f"Expected a {registry.kind}: one of the names {sorted(registry)}, a "
        "dictionary with 'class_name' and 'config', or an object of the "
        f"contract {protocol.__name__}. Received: {identifier!r}"
    )


def to_config(registry: Registry[T], entry: T) -> dict[str, Any]:
    """The dictionary from which `resolve` makes an equal object.

    Args:
        registry: The table of names.
        entry: An object of a registered class.

    Returns:
        Dictionary with `"class_name"` and `"config"`, ready for JSON.

    Raises:
        SqueezeError: If the object's class is not registered, or it has no
            `get_config`.
    """
    name = type(entry).__name__
    get_config = getattr(entry, "get_config", None)
    if get_config is None or _registered_name(registry, name) not in registry:
        raise SqueezeError(
            f"Expected a {registry.kind} of a registered class, one of "
            f"{sorted(registry)}, with `get_config()`. Received: {entry!r}"
        )
    return {"class_name": name, "config": get_config()}


def _registered_name(registry: Registry[Any], name: str) -> str:
    """The spelling in the table; class names are written in many ways."""
    spellings = (name.lower(), snake_case(name))
    return next((s for s in spellings if s in registry), name)
