"""Listening to what the layers of kernels are called with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

from keras_squeeze.errors import NoKernelMatchedError
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.masking.method_hook import listen, unlisten
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    check_built,
    find_kernels,
    matches,
    walk_layers,
)

Listener = Callable[[Kernel, tuple[Any, ...], dict[str, Any]], None]


@contextmanager
def listening(
    model: Any, kernels: list[Kernel], listener: Listener
) -> Iterator[None]:
    """While open, tells of each call of the kernels' layers.

    Recurrent layers call their cells step by step then, on values.

    Args:
        model: The `keras.Model` that is run.
        kernels: List of `Kernel` of it.
        listener: Callable taking a kernel, the positional and the keyword
            arguments of its layer's `call`.

    Yields:
        Nothing.
    """
    history = getattr(model, "history", None)
    with ExitStack() as stack:
        for kernel in kernels:
            bound = _bound(listener, kernel)
            listen(kernel.layer, "call", bound, history)
            stack.callback(unlisten, kernel.layer, "call", bound)
        for _, layer in walk_layers(model):
            if isinstance(layer, keras.layers.RNN):
                stack.enter_context(_step_by_step(layer))
        yield


def _bound(listener: Listener, kernel: Kernel) -> Callable[..., None]:
    def tell(*args: Any, **kwargs: Any) -> None:
        listener(kernel, args, kwargs)

    return tell


@contextmanager
def _step_by_step(layer: Any) -> Iterator[None]:
    """Keeps a recurrent layer from loops on symbols and from fused kernels."""
    wanted = {"unroll": True, "use_cudnn": False}
    before = {k: vars(layer)[k] for k in wanted if k in vars(layer)}
    vars(layer).update({name: wanted[name] for name in before})
    try:
        yield
    finally:
        vars(layer).update(before)


def calibrated_kernels(model: Any, filters: Filters = None) -> list[Kernel]:
    """The kernels of a model, those of quantized layers included.

    Args:
        model: A built `keras.Model`.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`. Defaults to all kernels.

    Returns:
        List of `Kernel` in model order; the `variable` of a quantized one is
        its `KernelLayout`, which has its shape.

    Raises:
        NoKernelMatchedError: If nothing is left.
    """
    check_built(model)
    layers = list(walk_layers(model))
    quantized = [
        kernel
        for path, layer in layers
        if isinstance(layer, QuantizedKernel) and layer.built
        for kernel in _quantized_kernels(path, layer)
        if matches(filters, kernel)
    ]
    try:
        floating = find_kernels(model, filters)
    except NoKernelMatchedError:
        if not quantized:
            raise
        floating = []
    place = {id(layer): i for i, (_, layer) in enumerate(layers)}
    both = [*floating, *quantized]
    return sorted(both, key=lambda kernel: place[id(kernel.layer)])


def _quantized_kernels(path: str, layer: Any) -> Iterator[Kernel]:
    for name, layout in layer.layouts.items():
        where = f"{path}/{name}" if path else name
        yield Kernel(where, layer, name, layout)
