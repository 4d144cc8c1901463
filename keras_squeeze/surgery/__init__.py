"""Edits of a live model: copy it, quantize its kernels, find its parts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "Kernel": "layer_tree",
    "copy_model": "copying",
    "describe_quantized_layers": "quantized_structure",
    "dequantize_model": "dequantization",
    "encode_kernels": "kernel_quantization",
    "find_kernels": "layer_tree",
    "named_variables": "layer_tree",
    "quantize": "quantization",
    "restore_quantized_layers": "quantized_structure",
    "walk_layers": "layer_tree",
}

__all__ = [
    "Kernel",
    "copy_model",
    "dequantize_model",
    "describe_quantized_layers",
    "encode_kernels",
    "find_kernels",
    "named_variables",
    "quantize",
    "restore_quantized_layers",
    "walk_layers",
]

if TYPE_CHECKING:
    from keras_squeeze.surgery.copying import copy_model
    from keras_squeeze.surgery.dequantization import dequantize_model
    from keras_squeeze.surgery.kernel_quantization import encode_kernels
    from keras_squeeze.surgery.layer_tree import (
        Kernel,
        find_kernels,
        named_variables,
        walk_layers,
    )
    from keras_squeeze.surgery.quantization import quantize
    from keras_squeeze.surgery.quantized_structure import (
        describe_quantized_layers,
        restore_quantized_layers,
    )


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_NAMES[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


# Keras last: importing it registers the package's classes, and what does that
# looks the names above up.
import keras  # noqa: E402, F401
