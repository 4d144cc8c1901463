"""Weights that quantized layers cannot take over, each with its reason."""

from __future__ import annotations

from typing import Any

from keras_squeeze.errors import NoKernelMatchedError
from keras_squeeze.surgery.layer_tree import find_kernels, walk_layers

# Few numbers a channel, with two or more dimensions in some layers.
_SMALL = frozenset({"bias", "gamma", "beta"})


def kernels_held_twice(model: Any) -> dict[int, str]:
    """Kernels that a second layer reads or writes, and why that forbids it.

    A layer that becomes quantized drops its kernel; another one that holds
    the same variable, as `SpectralNormalization` or a tied layer, would go on
    with float weights that nothing else uses.

    Args:
        model: A built `keras.Model` or layer.

    Returns:
        Dictionary of the `id` of a kernel's variable to the reason.
    """
    holders: dict[int, list[str]] = {}
    for path, layer in walk_layers(model):
        for variable in layer._trainable_variables:
            name = f"{path or layer.name} ({type(layer).__name__})"
            holders.setdefault(id(variable), []).append(name)
    return {
        key: f"held by several layers: {', '.join(names)}"
        for key, names in holders.items()
        if len(names) > 1
    }


def unknown_weights(model: Any) -> list[dict[str, str]]:
    """Weights of two or more dimensions that are no kernel known to us.

    Args:
        model: A built `keras.Model` or layer.

    Returns:
        List of dictionaries with `path` and `reason`.
    """
    known = _kernels(model)
    seen: set[int] = set()
    found = []
    for path, layer in walk_layers(model):
        for variable in layer._trainable_variables:
            if id(variable) in known | seen or len(variable.shape) < 2:
                continue
            seen.add(id(variable))
            if variable.name not in _SMALL:
                reason = f"no quantized layer for {type(layer).__name__}"
                name = "/".join(
                    [path, variable.name] if path else [variable.name]
                )
                found.append({"path": name, "reason": reason})
    return found


def _kernels(model: Any) -> set[int]:
    try:
        return {id(kernel.variable) for kernel in find_kernels(model)}
    except NoKernelMatchedError:
        return set()
