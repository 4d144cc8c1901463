"""Keras 3 models made small: while they train, after they train, on disk.

Nothing here imports Keras or TensorFlow until a name that needs them is
touched; `inspect` and `verify` never do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_SUBMODULES = (
    "artifact",
    "calibration",
    "callbacks",
    "codecs",
    "constraints",
    "errors",
    "factorizing",
    "layers",
    "low_rank",
    "pruning",
    "quantizers",
    "recovery",
    "regularizers",
    "report",
    "saving",
    "schedules",
    "shrinking",
    "surgery",
    "testing",
    "training_quantization",
)
_NAMES = {
    "SqueezeError": "keras_squeeze.errors",
    "apply": "keras_squeeze.artifact",
    "diff": "keras_squeeze.artifact",
    "export": "keras_squeeze.saving",
    "factorize": "keras_squeeze.factorizing",
    "inspect": "keras_squeeze.artifact",
    "load_model": "keras_squeeze.saving",
    "load_weights": "keras_squeeze.saving",
    "quantize": "keras_squeeze.surgery",
    "shrink": "keras_squeeze.shrinking",
    "sign": "keras_squeeze.artifact",
    "summary": "keras_squeeze.model_summary",
    "unpack": "keras_squeeze.saving",
    "verify": "keras_squeeze.artifact",
}

__all__ = ["__version__", *_SUBMODULES, *_NAMES]

if TYPE_CHECKING:
    from keras_squeeze import artifact as artifact
    from keras_squeeze import calibration as calibration
    from keras_squeeze import callbacks as callbacks
    from keras_squeeze import codecs as codecs
    from keras_squeeze import constraints as constraints
    from keras_squeeze import errors as errors
    from keras_squeeze import factorizing as factorizing
    from keras_squeeze import layers as layers
    from keras_squeeze import low_rank as low_rank
    from keras_squeeze import pruning as pruning
    from keras_squeeze import quantizers as quantizers
    from keras_squeeze import recovery as recovery
    from keras_squeeze import regularizers as regularizers
    from keras_squeeze import report as report
    from keras_squeeze import saving as saving
    from keras_squeeze import schedules as schedules
    from keras_squeeze import shrinking as shrinking
    from keras_squeeze import surgery as surgery
    from keras_squeeze import testing as testing
    from keras_squeeze import training_quantization as training_quantization
    from keras_squeeze.artifact import apply as apply
    from keras_squeeze.artifact import diff as diff
    from keras_squeeze.artifact import inspect as inspect
    from keras_squeeze.artifact import sign as sign
    from keras_squeeze.artifact import verify as verify
    from keras_squeeze.errors import SqueezeError as SqueezeError
    from keras_squeeze.factorizing import factorize as factorize
    from keras_squeeze.model_summary import summary as summary
    from keras_squeeze.saving import export as export
    from keras_squeeze.saving import load_model as load_model
    from keras_squeeze.saving import load_weights as load_weights
    from keras_squeeze.saving import unpack as unpack
    from keras_squeeze.shrinking import shrink as shrink
    from keras_squeeze.surgery import quantize as quantize


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"keras_squeeze.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(
        f"module 'keras_squeeze' has no attribute {name!r}; it has "
        f"{', '.join(sorted(__all__))}"
    )


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


def _register_with_keras(_module: Any) -> None:
    """Makes our layers known to `keras.models.load_model`."""
    importlib.import_module("keras_squeeze.layers")
    importlib.import_module("keras_squeeze.recovery")
    importlib.import_module("keras_squeeze.regularizers")
    importlib.import_module("keras_squeeze.saving.squeezed_model")


def _register_when_keras_is_imported() -> None:
    import wrapt

    wrapt.register_post_import_hook(_register_with_keras, "keras")


_register_when_keras_is_imported()
