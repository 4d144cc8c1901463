"""Kernels that are dequantized once for many calls of their layers."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keras_squeeze.layers.dequantization import computed_after

# By the `id` of a layer and the name of its kernel. A context variable, so
# that tensors of a function being traced stay in the thread that traces it.
_HELD: contextvars.ContextVar[Mapping[tuple[int, str], Any]] = (
    contextvars.ContextVar("held_kernels")
)


@contextlib.contextmanager
def held_kernels(layers: Iterable[Any], inputs: Any) -> Iterator[None]:
    """Computes the kernels of layers now, for all their calls inside.

    A recurrent layer calls its cell at every time step, in a loop of the
    graph: without this, the loop would compute the kernels in each turn.

    Args:
        layers: Built layers with quantized kernels.
        inputs: Tensors that the kernels are computed after.
    """
    with computed_after(inputs):
        kernels = {
            (id(layer), name): layer.dequantized(name)
            for layer in layers
            for name in layer.layouts
        }
    token = _HELD.set({**_HELD.get({}), **kernels})
    try:
        yield
    finally:
        _HELD.reset(token)


def held_kernel(layer: Any, name: str) -> Any | None:
    """The kernel that is held for a layer; `None` if there is none.

    Args:
        layer: A layer.
        name: String. The kernel's name.

    Returns:
        Tensor or `None`.
    """
    return _HELD.get({}).get((id(layer), name))
