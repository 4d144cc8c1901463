"""The layers of a model whose kernels are trained with rounding."""

from __future__ import annotations

from typing import Any

from keras_squeeze.errors import NoKernelMatchedError
from keras_squeeze.layers.low_rank_layer import LowRankLayer
from keras_squeeze.layers.quantization_aware import QuantizationAware
from keras_squeeze.layers.quantization_aware_conversion import (
    reason_not_trainable_on_grid,
)
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    kernel_attributes,
    matches,
    walk_layers,
)

Paths = list[tuple[str, Any]]


def find_layers(
    model: Any, filters: Filters = None
) -> tuple[Paths, list[tuple[str, str]]]:
    """The layers in question, and those that cannot be trained so.

    Args:
        model: A built `keras.Model`.
        filters: Optional regex, searched in the kernels' paths, or callable
            `layer -> bool`. Defaults to `None`: all.

    Returns:
        Two lists in model order: pairs of a layer's path and the layer, float,
        quantized or trained with rounding already; and pairs of path and the
        reason why a layer with kernels is left as it is.

    Raises:
        NoKernelMatchedError: If no layer is left.
    """
    found, skipped = [], []
    for path, layer in walk_layers(model):
        names = kernel_names(layer)
        if not any(_is_meant(filters, path, layer, name) for name in names):
            continue
        reason = reason_not_trainable_on_grid(layer)
        if reason is None or isinstance(layer, QuantizationAware):
            found.append((path, layer))
        else:
            skipped.append((path, reason))
    if not found:
        raise NoKernelMatchedError(
            f"Expected at least one layer of {model.name!r} with a kernel "
            "that can be trained with quantization. Received: filters="
            f"{filters!r}, which leaves {dict(skipped) or 'none'}"
        )
    return found, skipped


def kernel_names(layer: Any) -> tuple[str, ...]:
    """The kernels of a layer, be it float or quantized.

    Args:
        layer: A Keras layer.

    Returns:
        Tuple of names, empty for a layer without kernels.
    """
    if isinstance(layer, QuantizedKernel | QuantizationAware):
        return tuple(layer.layouts)
    # The kernels of a low-rank layer are those of its factors.
    has_none = isinstance(layer, LowRankLayer) or not layer.built
    return () if has_none else kernel_attributes(layer)


def _is_meant(filters: Filters, path: str, layer: Any, name: str) -> bool:
    prefix = f"{path}/" if path else ""
    return matches(filters, Kernel(prefix + name, layer, name, None))
