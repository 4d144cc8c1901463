"""What `quantize` is asked for: which layers, with which quantizer each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_squeeze.errors import NoKernelMatchedError, SqueezeError
from keras_squeeze.layers.conversion import reason_not_quantizable
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.quantizer_arguments import layer_quantizer
from keras_squeeze.quantizers import Quantizer
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    find_kernels,
    kernel_attributes,
    matches,
    walk_layers,
)
from keras_squeeze.surgery.unquantized_weights import (
    kernels_held_twice,
    unknown_weights,
)

Skipped = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class LayerKernels:
    """A layer to be quantized, with all its kernels.

    Args:
        path: String. The layer's path.
        layer: The layer.
        kernels: Tuple of `Kernel`.
    """

    path: str
    layer: Any
    kernels: tuple[Kernel, ...]


def select_layers(
    model: Any, filters: Filters
) -> tuple[list[LayerKernels], Skipped]:
    """Chooses the layers of a model that become quantized.

    A layer with several kernels is taken if one of them matches.

    Args:
        model: A built `keras.Model`.
        filters: Optional regex or callable.

    Returns:
        Pair of a list of `LayerKernels` in model order, and a list of what
        is left out, each with `path` and `reason`.

    Raises:
        NoKernelMatchedError: If nothing is left; the message lists the
            candidates.
    """
    skipped = _quantized_before(model) + unknown_weights(model)
    held_twice = kernels_held_twice(model)
    candidates: list[LayerKernels] = []
    for found in _by_layer(model):
        held = [held_twice.get(id(k.variable)) for k in found.kernels]
        reasons = [reason_not_quantizable(found.layer), *held]
        reason = next((r for r in reasons if r is not None), None)
        if reason is None:
            candidates.append(found)
        else:
            skipped += _skip(found, reason)
    matched = [
        found
        for found in candidates
        if any(matches(filters, kernel) for kernel in found.kernels)
    ]
    if not matched:
        raise _no_match(model, filters, candidates, skipped)
    for found in candidates:
        if found not in matched:
            skipped += _skip(found, "not matched by `filters`")
    return matched, skipped


def _by_layer(model: Any) -> list[LayerKernels]:
    found: dict[int, list[Kernel]] = {}
    for kernel in find_kernels(model):
        found.setdefault(id(kernel.layer), []).append(kernel)
    return [
        LayerKernels(_layer_path(kernels[0]), kernels[0].layer, tuple(kernels))
        for kernels in found.values()
    ]


def _layer_path(kernel: Kernel) -> str:
    return kernel.path.rpartition("/")[0]


def _skip(found: LayerKernels, reason: str) -> Skipped:
    return [{"path": k.path, "reason": reason} for k in found.kernels]


def _quantized_before(model: Any) -> Skipped:
    return [
        {"path": path, "reason": str(reason_not_quantizable(layer))}
        for path, layer in walk_layers(model)
        if isinstance(layer, QuantizedKernel)
        or (
            kernel_attributes(layer)
            and getattr(layer, "quantization_mode", None)
            not in (None, "float8")
        )
    ]


def _no_match(
    model: Any,
    filters: Filters,
    candidates: list[LayerKernels],
    skipped: Skipped,
) -> NoKernelMatchedError:
    paths = [kernel.path for found in candidates for kernel in found.kernels]
    names = ", ".join(paths) or "none"
    reasons = "; ".join(f"{s['path']}: {s['reason']}" for s in skipped)
    return NoKernelMatchedError(
        f"Expected `filters` to match at least one quantizable kernel of "
        f"{model.name!r}; the candidates are: {names}"
        + (f" (not candidates: {reasons})" if reasons else "")
        + f". Received: filters={filters!r}"
    )


def layer_quantizers(
    layers: list[LayerKernels],
    bits: int | Mapping[str, int] | None,
    granularity: str,
    quantizer: Any,
    group_size: int | None,
) -> tuple[dict[str, Quantizer], Skipped]:
    """Chooses the quantizer of each layer.

    Args:
        layers: List of `LayerKernels`.
        bits: Integer, or mapping of a regex, searched in the paths of
            kernels, to an integer. The first that is found counts; layers
            where none is stay as they are.
        granularity: String.
        quantizer: String, config or `Quantizer`.
        group_size: Integer or `None`.

    Returns:
        Pair of a dictionary of a layer's path to its `Quantizer`, and a list
        of what is left out.

    Raises:
        NoKernelMatchedError: If a regex is found in no path.
        SqueezeError: If an argument is out of its range.
    """
    if not isinstance(bits, Mapping):
        chosen = layer_quantizer(quantizer, bits, granularity, group_size)
        return {found.path: chosen for found in layers}, []
    if isinstance(quantizer, Quantizer):
        raise SqueezeError(
            "Expected a quantizer by its name beside a mapping of bits: an "
            f"object brings its own bits. Received: {quantizer!r}"
        )
    made = {
        pattern: layer_quantizer(quantizer, number, granularity, group_size)
        for pattern, number in bits.items()
    }
    _check_patterns(layers, made)
    chosen_by_path, skipped = {}, []
    for found in layers:
        pattern = _first_match(found, made)
        if pattern is None:
            skipped += _skip(found, "not matched by a regex of `bits`")
        else:
            chosen_by_path[found.path] = made[pattern]
    return chosen_by_path, skipped


def _first_match(found: LayerKernels, patterns: Iterable[str]) -> str | None:
    for pattern in patterns:
        if any(re.search(pattern, kernel.path) for kernel in found.kernels):
            return pattern
    return None


def _check_patterns(
    layers: list[LayerKernels], patterns: Mapping[str, Quantizer]
) -> None:
    paths = [kernel.path for found in layers for kernel in found.kernels]
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise NoKernelMatchedError(
                "Expected each regex of `bits` to match a kernel; the "
                f"candidates are: {', '.join(paths)}. Received: {pattern!r}"
            )
    if not patterns:
        raise SqueezeError(
            "Expected `bits` to be an integer or a mapping with at least one "
            "regex. Received: bits={}"
        )
