"""`load_model`, `load_weights` and `unpack`: a file becomes a live model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import numpy as np

from keras_squeeze import artifact
from keras_squeeze.artifact import Artifact, Limits, TensorRecord
from keras_squeeze.artifact.access import Access, AccessOptions, make_access
from keras_squeeze.artifact.writing import check_not_empty, write_atomically
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.report import Report
from keras_squeeze.saving.assigning import assign_tensors
from keras_squeeze.saving.model_config import build_model
from keras_squeeze.saving.restoring import restore_structure
from keras_squeeze.saving.variable_budget import variable_budget
from keras_squeeze.saving.weight_store import assign_store, is_store
from keras_squeeze.surgery.dequantization import dequantize_model
from keras_squeeze.surgery.layer_tree import named_variables

_TARGETS = (".weights.h5", ".keras")
# So much is decoded at once; more would be felt.
_SMALL_BYTES = 64 << 20

Decoded = Iterable[tuple[TensorRecord, np.ndarray]]


def load_model(
    path: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    limits: Limits | None = None,
    dequantize: bool = False,
    **access: Unpack[AccessOptions],
) -> Any:
    """Loads a model that `ks.export` wrote.

    Every digest is checked before Keras sees anything of the file, and the
    config may name nothing but Keras' own modelling objects and classes that
    you registered or pass here. Tensors are decoded a few at a time: memory
    holds the model and little more.

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
        **access: What vouches for the file and opens it. `public_key` and
            `signature`: whose signature it must carry, and where that lies
            (by default at `path` + `.sig`). `expected_sha256`: its SHA-256
            in hex. `key`: 32 bytes, or a passphrase, to decrypt it with.
            `base`: path of the file that it holds changes to.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ArtifactError: If the file is damaged, foreign, newer, unsafe, or not
            what is vouched for.
        ModelMismatchError: If Keras cannot build the model; a subclassed
            model without `get_config` is loaded by `ks.load_weights`.
        SqueezeError: If `dequantize` is set and a quantized layer is of a
            subclass of your own.
    """
    wanted = make_access(limits, access)
    with artifact.read(path, access=wanted) as opened:
        model = revive(opened, custom_objects, safe_mode, wanted.limits)
    if dequantize:
        dequantize_model(model)
    return model


def revive(
    opened: Artifact,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    limits: Limits | None = None,
) -> Any:
    """Builds the model of an opened artifact and sets its variables.

    Args:
        opened: An `Artifact` with its payload.
        custom_objects: Optional mapping of names to classes or functions.
        safe_mode: Boolean. Defaults to `True`.
        limits: Optional `Limits`, which bound the model's variables as they
            bound what is decoded.

    Returns:
        A `keras.Model`.
    """
    description, where = opened.manifest.model, opened.path
    most = (limits or Limits()).decoded_bytes(opened.file_bytes)
    with variable_budget(most, where):
        model = build_model(description, where, custom_objects, safe_mode)
        _load(model, opened, opened.iterate())
    return model


def load_weights(
    model: Any,
    path: str | os.PathLike[str],
    limits: Limits | None = None,
    **access: Unpack[AccessOptions],
) -> Report:
    """Sets the variables of a model from a file, whose config is never read.

    Layers that the file holds quantized or of low rank become so in `model`.
    Nothing is changed before the whole file is known to fit and to decode.

    Args:
        model: A built `keras.Model` of the same structure.
        path: Path of the file.
        limits: Optional `artifact.Limits`.
        **access: What vouches for the file and opens it, as for
            `load_model`.

    Returns:
        A `Report` with a row a tensor.

    Raises:
        ArtifactError: If the file is damaged, foreign, newer, unsafe, or not
            what is vouched for.
        ModelMismatchError: If the model does not match; it is unchanged then.
    """
    named_variables(model)
    wanted = make_access(limits, access)
    with artifact.read(path, access=wanted) as opened:
        most = wanted.limits.decoded_bytes(opened.file_bytes)
        with variable_budget(most, opened.path):
            _load(model, opened, _checked(opened, wanted))
        return artifact.describe(opened)


def _checked(opened: Artifact, access: Access) -> Decoded:
    """The tensors of a file, that is known to decode before the first one.

    Digests are right in a file that was forged, too: only decoding it shows
    whether its tensors are what they claim, and half of them assigned would
    be half a model. Who vouches for a file need not decode it twice.
    """
    if sum(t.decoded_bytes for t in opened.tensors) <= _SMALL_BYTES:
        return list(opened.iterate())
    if not access.is_vouched and access.key is None:
        for _ in opened.iterate():
            pass
    return opened.iterate()


def _load(model: Any, opened: Artifact, decoded: Decoded) -> None:
    if is_store(opened.manifest):
        assign_store(model, opened)
        return
    records = {record.name: record for record in opened.tensors}
    try:
        restore_structure(model, records, opened.manifest.model, opened.path)
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptArtifactError(
            "Expected `quantized_layers` with path, class_name and quantizer "
            "and `low_rank_layers` with path, class_name, method and rank in "
            f"{opened.path!r}. Received: {type(error).__name__}: {error}"
        ) from error
    assign_tensors(model, opened, decoded)


def unpack(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    **access: Unpack[AccessOptions],
) -> Report:
    """Writes the model of an artifact as one of Keras' own files.

    Args:
        path: Path of the artifact.
        target: Path that ends in `.keras` or `.weights.h5`.
        custom_objects: Optional mapping of names to classes or functions.
        **access: What vouches for the file and opens it, as for
            `load_model`.

    Returns:
        A `Report` with a row a file: its bytes.

    Raises:
        ArtifactError: If the file is damaged, foreign, newer, unsafe, or not
            what is vouched for.
        SqueezeError: If `target` has another suffix or cannot be written; an
            existing file is left as it was.
    """
    source, target = os.fspath(path), os.fspath(target)
    if not target.endswith(_TARGETS):
        raise SqueezeError(
            f"Expected a target that ends in one of {_TARGETS}. "
            f"Received: {target!r}"
        )
    model = load_model(source, custom_objects, **access)
    save = model.save if target.endswith(".keras") else model.save_weights
    write_atomically(target, save, verify=check_not_empty)
    sizes = {name: os.path.getsize(name) for name in (source, target)}
    rows = tuple({"file": name, "bytes": size} for name, size in sizes.items())
    totals = {"ratio": sizes[target] / sizes[source]}
    return Report(f"{source} -> {target}", ("file", "bytes"), rows, totals)
