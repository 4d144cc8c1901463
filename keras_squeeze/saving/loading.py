"""`load_model`, `load_weights` and `unpack`: a file becomes a live model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from keras_squeeze import artifact
from keras_squeeze.artifact import Artifact, Limits
from keras_squeeze.artifact.writing import check_not_empty, write_atomically
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.report import Report
from keras_squeeze.saving.assigning import assign_tensors
from keras_squeeze.saving.model_config import build_model
from keras_squeeze.saving.restoring import restore_structure
from keras_squeeze.surgery.dequantization import dequantize_model
from keras_squeeze.surgery.layer_tree import named_variables

_TARGETS = (".weights.h5", ".keras")


def load_model(
    path: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    limits: Limits | None = None,
    dequantize: bool = False,
) -> Any:
    """Loads a model that `ks.export` wrote.

    Every digest is checked before Keras sees anything of the file, and the
    config may name nothing but Keras' own modelling objects and classes that
    you registered or pass here.

    Args:
        path: Path of the file.
        custom_objects: Optional mapping of names to classes or functions.
        safe_mode: Boolean. Whether to refuse configs that may run code, as
            `Lambda` layers. Defaults to `True`.
        limits: Optional `artifact.Limits`.
        dequantize: Boolean. Whether quantized layers become Keras' own, with
            float kernels of the same values: as fast and as large in memory
            as before quantization, and, where there are no low-rank layers,
            loaded by Keras alone once saved. Defaults to `False`.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ArtifactError: If the file is damaged, foreign, newer or unsafe.
        ModelMismatchError: If Keras cannot build the model; a subclassed
            model without `get_config` is loaded by `ks.load_weights`.
        SqueezeError: If `dequantize` is set and a quantized layer is of a
            subclass of your own.
    """
    model = revive(artifact.read(path, limits), custom_objects, safe_mode)
    if dequantize:
        dequantize_model(model)
    return model


def revive(
    opened: Artifact,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> Any:
    """Builds the model of an opened artifact and sets its variables.

    Args:
        opened: An `Artifact` with its payload.
        custom_objects: Optional mapping of names to classes or functions.
        safe_mode: Boolean. Defaults to `True`.

    Returns:
        A `keras.Model`.
    """
    description = opened.manifest.model
    model = build_model(description, opened.path, custom_objects, safe_mode)
    _load(model, opened)
    return model


def load_weights(
    model: Any,
    path: str | os.PathLike[str],
    limits: Limits | None = None,
) -> Report:
    """Sets the variables of a model from a file, whose config is never read.

    Layers that the file holds quantized or of low rank become so in `model`.

    Args:
        model: A built `keras.Model` of the same structure.
        path: Path of the file.
        limits: Optional `artifact.Limits`.

    Returns:
        A `Report` with a row a tensor.

    Raises:
        ArtifactError: If the file is damaged, foreign, newer or unsafe.
        ModelMismatchError: If the model does not match; it is unchanged then.
    """
    named_variables(model)
    opened = artifact.read(path, limits)
    _load(model, opened)
    return artifact.describe(opened)


def _load(model: Any, opened: Artifact) -> None:
    tensors = opened.decode_all()
    try:
        restore_structure(model, tensors, opened.manifest.model, opened.path)
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptArtifactError(
            "Expected `quantized_layers` with path, class_name and quantizer "
            "and `low_rank_layers` with path, class_name, method and rank in "
            f"{opened.path!r}. Received: {type(error).__name__}: {error}"
        ) from error
    assign_tensors(model, tensors, opened.path)


def unpack(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
) -> Report:
    """Writes the model of an artifact as one of Keras' own files.

    Args:
        path: Path of the artifact.
        target: Path that ends in `.keras` or `.weights.h5`.
        custom_objects: Optional mapping of names to classes or functions.

    Returns:
        A `Report` with a row a file: its bytes.

    Raises:
        ArtifactError: If the file is damaged, foreign, newer or unsafe.
        SqueezeError: If `target` has another suffix or cannot be written; an
            existing file is left as it was.
    """
    source, target = os.fspath(path), os.fspath(target)
    if not target.endswith(_TARGETS):
        raise SqueezeError(
            f"Expected a target that ends in one of {_TARGETS}. "
            f"Received: {target!r}"
        )
    model = load_model(source, custom_objects)
    save = model.save if target.endswith(".keras") else model.save_weights
    write_atomically(target, save, verify=check_not_empty)
    sizes = {name: os.path.getsize(name) for name in (source, target)}
    rows = tuple({"file": name, "bytes": size} for name, size in sizes.items())
    totals = {"ratio": sizes[target] / sizes[source]}
    return Report(f"{source} -> {target}", ("file", "bytes"), rows, totals)
