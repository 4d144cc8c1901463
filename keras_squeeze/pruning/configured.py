"""What all objects with a config share: equality, hash and repr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T", bound="Configured")


class Configured:
    """Base of objects that are told apart by their config alone.

    Subclasses with arguments override `get_config()`.
    """

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal object."""
        return {}

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        """Makes an object from what `get_config()` returned."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and (
            self.get_config() == other.get_config()
        )

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        pairs = (f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({', '.join(pairs)})"
