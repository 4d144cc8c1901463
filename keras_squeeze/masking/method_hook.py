"""Listening to the calls of one object's method, for a while."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


class MethodHook:
    """Stands in for a method on one instance and tells listeners of calls.

    Args:
        owner: The object whose method is replaced.
        name: String. The method's name.
    """

    def __init__(self, owner: Any, name: str) -> None:
        self._method = getattr(owner, name)
        self._own = vars(owner).get(name)
        self._listeners: list[tuple[Callable[..., Any], Any]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the listeners with the arguments, then the method."""
        for listener, _ in self._listeners:
            listener(*args, **kwargs)
        return self._method(*args, **kwargs)

    def add(self, listener: Callable[..., Any], history: Any) -> None:
        """Adds a listener; those of other trainings were left behind."""
        current = [(one, at) for one, at in self._listeners if at() is history]
        self._listeners = [*current, (listener, _reference(history))]

    def remove(self, listener: Callable[..., Any]) -> bool:
        """Removes a listener; answers whether any is left."""
        kept = [pair for pair in self._listeners if pair[0] is not listener]
        self._listeners = kept
        return bool(kept)

    def restore(self, owner: Any, name: str) -> None:
        """Gives the method back to its owner."""
        # The instance's attribute hid the class' method.
        vars(owner).pop(name, None)
        if self._own is not None:
            vars(owner)[name] = self._own


def listen(
    owner: Any, name: str, listener: Callable[..., Any], history: Any
) -> None:
    """Has a listener called before every call of a method.

    Args:
        owner: The object whose method is listened to.
        name: String. The method's name.
        listener: Callable taking the method's arguments.
        history: The `keras.callbacks.History` of this fit, or `None`.
    """
    hook = vars(owner).get(name)
    if not isinstance(hook, MethodHook):
        hook = MethodHook(owner, name)
        # Past the owner's `__setattr__`: Keras' objects track what they are
        # given, and are locked once they are built.
        vars(owner)[name] = hook
    hook.add(listener, history)


def unlisten(owner: Any, name: str, listener: Callable[..., Any]) -> None:
    """Ends what `listen` began; a step traced meanwhile still tells.

    Args:
        owner: The object whose method was listened to.
        name: String. The method's name.
        listener: The same object that was given to `listen`.
    """
    hook = vars(owner).get(name)
    if isinstance(hook, MethodHook) and not hook.remove(listener):
        hook.restore(owner, name)


def _reference(history: Any) -> Callable[[], Any]:
    return weakref.ref(history) if history is not None else lambda: None
