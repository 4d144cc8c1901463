"""A named table of classes: what `get(identifier)` looks things up in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from keras_squeeze.errors import UnknownIdentifierError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and the factories behind them.

    Args:
        kind: String. What the table holds, for messages ("codec", ...).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str, factory: Callable[..., T]) -> None:
        """Adds a factory; a name, once given, is never given again.

        Args:
            name: String. The snake_case identifier.
            factory: Callable taking the entry's config as keyword arguments.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self._factories:
            raise ValueError(
                f"The {self.kind} name must be new. Received: {name!r}"
            )
        self._factories[name] = factory

    def create(self, name: str, config: Mapping[str, Any] | None = None) -> T:
        """Makes the entry of that name.

        Args:
            name: String. A registered name.
            config: Optional mapping of keyword arguments for the factory.

        Returns:
            The new object.

        Raises:
            UnknownIdentifierError: If no entry has the name, or its factory
                does not take the config.
        """
        if name not in self._factories:
            raise UnknownIdentifierError(
                f"Expected a known {self.kind}, one of {sorted(self)}. "
                f"Received: {name!r}"
            )
        try:
            return self._factories[name](**(config or {}))
        except TypeError as error:
            raise UnknownIdentifierError(
                f"The {self.kind} {name!r} does not take this config: {error}. "
                f"Received: {dict(config or {})}"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __contains__(self, name: object) -> bool:
        return name in self._factories
