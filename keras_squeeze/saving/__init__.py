"""Model <-> artifact: `export`, `load_model`, `load_weights`, `unpack`."""

from keras_squeeze.saving.exporting import export
from keras_squeeze.saving.loading import load_model, load_weights, unpack
from keras_squeeze.saving.squeezed_model import SqueezedModel

__all__ = [
    "SqueezedModel",
    "export",
    "load_model",
    "load_weights",
    "unpack",
]
