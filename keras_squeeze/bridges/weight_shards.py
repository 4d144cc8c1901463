"""Weights in shards: an index `.weights.json` and files beside it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_squeeze.bridges.hdf5_files import WeightStore, open_store
from keras_squeeze.errors import (
    CorruptArtifactError,
    LimitExceededError,
    UnsafeArtifactError,
)

_MAX_INDEX_BYTES = 64 << 20


class ShardedStore:
    """The arrays of several files as if they were one.

    Args:
        stores: List of `WeightStore`, one a shard.
        where: String. The index, for messages.

    Raises:
        CorruptArtifactError: If two shards hold an array of one name.
    """

    def __init__(self, stores: list[WeightStore], where: str) -> None:
        self.where = where
        self.is_keras_3 = True
        self._owners: dict[str, WeightStore] = {}
        for store in stores:
            for name in store.names:
                if name in self._owners:
                    raise CorruptArtifactError(
                        f"Expected every array in one shard of {where!r}. "
                        f"Received: {name!r} in two"
                    )
                self._owners[name] = store

    @property
    def names(self) -> list[str]:
        """Paths of all arrays, shard by shard."""
        return list(self._owners)

    def read(self, name: str) -> np.ndarray:
        """One array."""
        return self._owners[name].read(name)


@contextlib.contextmanager
def open_shards(path: str | os.PathLike[str]) -> Iterator[ShardedStore]:
    """Opens an index and the shards that it names.

    Args:
        path: Path of the `.weights.json` file.

    Yields:
        `ShardedStore`.

    Raises:
        CorruptArtifactError: If the index or a shard is damaged or missing.
        UnsafeArtifactError: If the index names a file in another folder.
    """
    name = os.fspath(path)
    groups = _read_index(name)
    folder = os.path.dirname(name)
    with contextlib.ExitStack() as opened:
        stores = {}
        for shard in sorted(set(itertools.chain(*groups.values()))):
            shard_path = os.path.join(folder, shard)
            _check_there(shard_path, name)
            size = os.path.getsize(shard_path)
            stores[shard] = opened.enter_context(
                open_store(shard_path, shard_path, size, is_shard=True)
            )
        store = ShardedStore(list(stores.values()), name)
        _check_complete(groups, store)
        yield store


def _read_index(path: str) -> dict[str, list[str]]:
    """The files of every group of variables."""
    if os.path.getsize(path) > _MAX_INDEX_BYTES:
        raise LimitExceededError(
            f"Expected an index of at most {_MAX_INDEX_BYTES:,} bytes. "
            f"Received: {path} of {os.path.getsize(path):,}"
        )
    try:
        with open(path, "rb") as file:
            content: Any = json.loads(file.read())
        found = content["weight_map"].items()
    except (
        ValueError,
        RecursionError,
        LookupError,
        AttributeError,
        TypeError,
    ) as error:
        raise CorruptArtifactError(
            f"Expected an index with a `weight_map`. Received: {path}, {error}"
        ) from error
    return {
        group: [_checked_name(file, path) for file in _as_list(files)]
        for group, files in found
    }


def _as_list(files: Any) -> list[Any]:
    return files if isinstance(files, list) else [files]


def _checked_name(file: Any, path: str) -> str:
    plain = isinstance(file, str) and os.path.basename(file) == file
    if not plain or file in ("", ".", "..") or "\\" in file or "\0" in file:
        raise UnsafeArtifactError(
            f"Expected shards beside {path!r}. Received: {file!r}"
        )
    return str(file)


def _check_there(shard: str, path: str) -> None:
    if not os.path.isfile(shard):
        raise CorruptArtifactError(
            f"Expected all shards that {path!r} names. "
            f"Received: no file {shard!r}"
        )


def _check_complete(groups: dict[str, list[str]], store: ShardedStore) -> None:
    there = {"/" + name.rpartition("/")[0] for name in store.names}
    optimizer = ("/optimizer/", "/optimizer_weights/")
    missing = [
        group
        for group in groups
        if group not in there and not group.startswith(optimizer)
    ]
    if missing:
        raise CorruptArtifactError(
            f"Expected shards with all groups that {store.where!r} lists. "
            f"Received: none with {missing[:5]}"
        )
