"""A file of Keras becomes an artifact without its model being built."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from keras_squeeze import artifact
from keras_squeeze.artifact import Artifact, TensorInput
from keras_squeeze.artifact.coding import DeferredTensor
from keras_squeeze.artifact.packing import open_base
from keras_squeeze.artifact.settled_config import settle_config
from keras_squeeze.bridges.hdf5_files import WeightStore, open_store
from keras_squeeze.bridges.keras_archives import open_archive
from keras_squeeze.bridges.weight_shards import ShardedStore, open_shards
from keras_squeeze.errors import UnsupportedModelError
from keras_squeeze.report import Report

#: What `Manifest.model["layout"]` is in an artifact whose tensors have the
#: names of a file of Keras.
LAYOUT = "keras_weights_file"

_BACKEND = "unknown"


def export_file(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = True,
    executor: Executor | None = None,
    profile: str = "auto",
    base: str | os.PathLike[str] | Artifact | None = None,
    encryption_key: bytes | str | None = None,
    resume: bool = True,
    keep: Sequence[str] = (),
) -> Report:
    """Writes the weights of a Keras file into one compact, verified `.h5`.

    Neither Keras nor TensorFlow is imported, and one tensor is in memory at a
    time. The weights are coded without loss, under the names that they have
    in the file; `ks.load_weights` sets them in a live model as Keras' own
    loader does. What comes from a `.keras` file has its config, too, and is
    loaded by `ks.load_model`. Optimizer state is left out.

    Args:
        source: Path of a `.weights.h5`, a `.weights.json` with its shards, or
            a `.keras` file.
        path: Path that ends in `.h5`, or in `.h5.enc` if it is encrypted.
        overwrite: Boolean. Whether to replace an existing file. Defaults to
            `True`.
        executor: Optional `concurrent.futures.Executor`.
        profile: String. `"fast"`, `"small"` or `"auto"`. Defaults to
            `"auto"`.
        base: Optional path of an artifact, or an opened one, that the file
            holds changes to.
        encryption_key: Optional 32 bytes, or a string, a passphrase.
        resume: Boolean. Whether an interrupted export goes on later. Defaults
            to `True`.
        keep: Sequence of strings. What else than the model itself stays in
            its config. Defaults to `()`.

    Returns:
        A `Report` with a row a tensor.

    Raises:
        UnsupportedModelError: If the file can only be read by building its
            model, as a whole-model `.h5` or one with files of layers.
        ArtifactError: If the source is damaged, foreign or unsafe, or the
            target cannot be written; it is as it was then.
    """
    with (
        _open(os.fspath(source), keep) as (store, description, version),
        open_base(base) as opened_base,
        artifact.write(
            path,
            _deferred(store),
            description,
            keras_version=version,
            backend=_BACKEND,
            profile=profile,
            overwrite=overwrite,
            executor=executor,
            base=opened_base,
            encryption_key=encryption_key,
            resume=resume,
        ) as written,
    ):
        return artifact.describe(written)


def can_export_file(source: str | os.PathLike[str]) -> bool:
    """Whether a file can become an artifact without its model being built.

    Args:
        source: Path of the file.

    Returns:
        Boolean; true for weights files even where `export_file` refuses them,
        for there is no model in them to build.

    Raises:
        ArtifactError: If the file is damaged.
    """
    name = os.fspath(source)
    if not name.endswith(".keras"):
        return name.endswith((".weights.h5", ".weights.json"))
    with open_archive(name) as archive:
        return not archive.other_members()


AnyStore = WeightStore | ShardedStore
Opened = tuple[AnyStore, dict[str, Any], str]


@contextlib.contextmanager
def _open(source: str, keep: Sequence[str]) -> Iterator[Opened]:
    with contextlib.ExitStack() as opened:
        store: AnyStore
        description, version = _describe(None), "unknown"
        if source.endswith(".keras"):
            archive = opened.enter_context(open_archive(source))
            description = _describe(archive.read_config(), keep)
            version = archive.read_keras_version()
            store = opened.enter_context(archive.open_weights())
        elif source.endswith(".weights.json"):
            store = opened.enter_context(open_shards(source))
        elif source.endswith(".weights.h5"):
            size = os.path.getsize(source)
            store = opened.enter_context(open_store(source, source, size))
        else:
            raise _must_be_built(source, "another kind of file")
        if not store.is_keras_3:
            raise _must_be_built(source, "weights of an earlier Keras")
        yield store, description, version


def _must_be_built(source: str, received: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        "Expected a `.keras`, `.weights.h5` or `.weights.json` file of Keras "
        "3; load anything else with Keras and export the live model. "
        f"Received: {source}, {received}"
    )


def _describe(
    config: Mapping[str, Any] | None, keep: Sequence[str] = ()
) -> dict[str, Any]:
    inner = (config or {}).get("config")
    name = inner.get("name", "") if isinstance(inner, dict) else ""
    return {
        "class_name": str((config or {}).get("class_name", "Model")),
        "name": str(name),
        "config": None if config is None else settle_config(config, keep),
        "layout": LAYOUT,
    }


def _deferred(store: AnyStore) -> Iterator[DeferredTensor]:
    for name in store.names:
        yield DeferredTensor(name, functools.partial(_read, store, name))


def _read(store: AnyStore, name: str) -> TensorInput:
    return TensorInput.from_values(name, store.read(name))
