"""Which callbacks stand before another in the list of a running fit."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import keras


def warn_of_savers_before(callback: Any) -> None:
    """Warns if callbacks that save the model stand before one that changes it.

    Keras tells a callback nothing of the others: the list that calls it is
    looked for in the calling frames. Where there is none, nothing is said.

    Args:
        callback: The `keras.callbacks.Callback`, called by the list.
    """
    names = _savers_before(callback, _callbacks_in_frames(callback))
    if names:
        name = type(callback).__name__
        warnings.warn(
            f"{name}: put it before {' and '.join(names)} in the list of "
            "callbacks. As it is, what they save after a batch at which the "
            "model is changed holds the weights before the change, and a "
            "resumed training does not equal the uninterrupted one.",
            stacklevel=2,
        )


def find_callbacks(callback: Any, kind: type) -> list[Any]:
    """The callbacks of a class in the list that another one stands in.

    Args:
        callback: The `keras.callbacks.Callback`, called by the list.
        kind: Class of callbacks.

    Returns:
        List, empty where the list cannot be found.
    """
    callbacks = _callbacks_in_frames(callback)
    return [one for one in callbacks if isinstance(one, kind)]


def _savers_before(callback: Any, callbacks: list[Any]) -> list[str]:
    savers = (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore)
    names = []
    for other in callbacks:
        if other is callback:
            break
        if isinstance(other, savers):
            names.append(type(other).__name__)
    return names


def _callbacks_in_frames(callback: Any) -> list[Any]:
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            found = list(caller.callbacks)
            if any(one is callback for one in found):
                return found
        frame = frame.f_back  # type: ignore[assignment]
    return []
