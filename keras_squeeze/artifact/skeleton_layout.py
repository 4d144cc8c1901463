"""The names in the HDF5 skeleton, shared by its writer and its reader."""

from __future__ import annotations

import json

MODEL_CLASS = "keras_squeeze>SqueezedModel"
MODEL_CONFIG = "model_config"
KERAS_VERSION = "keras_version"
BACKEND = "backend"
LAYER_NAMES = "layer_names"
WEIGHT_NAMES = "weight_names"
GROUP = "model_weights"
TOP = "top_level_model_weights"
DATASET = "stream"

#: Longest `keras_version` or `backend` that a reader takes, in bytes.
MAX_VERSION_BYTES = 64


def model_config(stream_bytes: int) -> bytes:
    """The attribute by which Keras finds the class that reads the stream.

    Args:
        stream_bytes: Integer. Size of the stream.

    Returns:
        Bytes. JSON.

    Example:
    >>> model_config(60)[-31:]
    b'"config": {"stream_bytes": 60}}'
    """
    config = {"stream_bytes": stream_bytes}
    return json.dumps({"class_name": MODEL_CLASS, "config": config}).encode()
