"""How often the layers of a live model have been changed by surgery."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

_versions: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def structure_version(model: Any) -> int:
    """A number that grows whenever kernels of a model are replaced.

    Whoever holds variables of a model compares it with the one it knew.

    Args:
        model: A `keras.Model`.

    Returns:
        Integer, zero for a model that was never changed.
    """
    return _versions.get(model, 0)


def mark_changed(model: Any) -> None:
    """Says that kernels of a model have been replaced.

    Args:
        model: A `keras.Model`.
    """
    _versions[model] = structure_version(model) + 1
