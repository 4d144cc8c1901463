"""Keras' own whole-model files, loaded in its safe mode."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import keras

from keras_squeeze.errors import NotAnArtifactError, SqueezeError
from keras_squeeze.saving.loading import load_model


def load_keras_file(path: str | os.PathLike[str]) -> Any:
    """Builds the model of a `.keras` or `.h5` file, or of an artifact.

    Args:
        path: Path of the file.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        SqueezeError: If it is no whole model.
        ArtifactError: If it is an artifact that is damaged or unsafe.
    """
    name = os.fspath(path)
    if name.endswith(".weights.h5") or not name.endswith((".h5", ".keras")):
        raise SqueezeError(
            "Expected a built keras.Model, or the path of a `.keras` or `.h5` "
            f"file with a whole model. Received: {path!r}"
        )
    if name.endswith(".h5"):
        with contextlib.suppress(NotAnArtifactError):
            return load_model(name)
    return keras.models.load_model(name, compile=False, safe_mode=True)
