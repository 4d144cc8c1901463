"""The kernels of a model, those of quantized layers included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_squeeze.errors import NoKernelMatchedError
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    check_built,
    find_kernels,
    matches,
    walk_layers,
)


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
