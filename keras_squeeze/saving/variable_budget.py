"""A bound on what building a model from a file may allocate.

The config of a small file may ask for a layer of any size. While a budget is
set, every variable is charged to it before it is made, by the constructor that
all of Keras' variables go through; without one that constructor is Keras' own.
"""

from __future__ import annotations

import functools
import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras

from keras_squeeze.errors import LimitExceededError


class _Budget:
    def __init__(self, max_bytes: int, where: str) -> None:
        self.max_bytes = max_bytes
        self.where = where
        self.spent = 0

    def charge(self, shape: Any, dtype: Any) -> None:
        self.spent += math.prod(shape) * _itemsize(dtype)
        if self.spent > self.max_bytes:
            raise LimitExceededError(
                f"Expected the config of {self.where!r} to ask for variables "
                f"of at most {self.max_bytes:,} bytes in all; raise the limit "
                "with `artifact.Limits` if you trust the file. "
                f"Received: {self.spent:,} bytes or more, one of shape {shape}"
            )


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def variable_budget(max_bytes: int, where: str) -> Iterator[None]:
    """Bounds the variables that this thread makes inside the block.

    Args:
        max_bytes: Integer. Most bytes of all variables together.
        where: String. The file, for the message.

    Raises:
        LimitExceededError: Where a variable would exceed it, before anything
            is allocated for it.

    Example:
    >>> import keras
    >>> with variable_budget(1000, "m.h5"):
    ...     layer = keras.layers.Dense(10)
    ...     layer.build((None, 9))
    """
    token = _budget.set(_Budget(max_bytes, where))
    _watch.begin()
    try:
        yield
    finally:
        _watch.end()
        _budget.reset(token)


def _itemsize(dtype: Any) -> int:
    name = str(dtype or keras.config.floatx())
    bits = re.search(r"\d+", name)
    return max(1, int(bits.group()) // 8) if bits else 1


def _charging(make: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(make)
    def __init__(
        self: Any,
        initializer: Any,
        shape: Any = None,
        dtype: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        budget = _budget.get()
        if budget is not None and shape is not None:
            budget.charge(tuple(shape), dtype)
        make(self, initializer, shape, dtype, *args, **kwargs)

    return __init__


class _Watch:
    """The constructor of Keras' variables, replaced while a budget is set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._budgets = 0
        self._own: Callable[..., None] = keras.Variable.__init__

    def begin(self) -> None:
        with self._lock:
            if not self._budgets:
                self._own = keras.Variable.__init__
                keras.Variable.__init__ = _charging(self._own)
            self._budgets += 1

    def end(self) -> None:
        with self._lock:
            self._budgets -= 1
            if not self._budgets:
                keras.Variable.__init__ = self._own


_watch = _Watch()
