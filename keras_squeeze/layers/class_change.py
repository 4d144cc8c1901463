"""A live layer becomes an instance of another class."""

from __future__ import annotations

from typing import Any


def change_class(layer: Any, target: type) -> None:
    """Gives a built layer another class.

    Args:
        layer: A built Keras layer.
        target: The class: of the same bases in memory, as a subclass.
    """
    layer.__class__ = target
    # Keras binds these two to the class an object was made with.
    for name in ("build", "quantize"):
        layer.__dict__.pop(name, None)
