"""The weights of any Keras file, read without Keras and without a model.

Four kinds are read: a whole model `.h5`, a `.weights.h5`, a `.keras` archive
and a keras_squeeze artifact. Optimizer state is left out, and arrays are read
one at a time where that is asked for. The files may come
from anywhere: whatever could make HDF5 open another file, or allocate more
than the file justifies, is refused before any data is read.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_squeeze.errors import (
    ArtifactError,
    CorruptArtifactError,
    LimitExceededError,
    NotAnArtifactError,
    UnsafeArtifactError,
)

if TYPE_CHECKING:
    import h5py

MAX_BYTES = 16 * 2**30
MAX_EXPANSION = 1000
MAX_OBJECTS = 1_000_000
MAX_DEPTH = 64

# Below this size no ratio between the file and its content is suspicious.
_FREE_BYTES = 64 * 2**20
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ROOT_GROUPS = ("model_weights", "layers", "vars")
_KERAS_3 = "keras_3"
_OPTIMIZER_GROUPS = ("optimizer", "optimizer_weights")


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the weights of a Keras file or of an artifact.

    Args:
        path: String or path. A `.h5`, `.weights.h5`, `.keras` file or an
            artifact; the content decides, not the suffix.

    Returns:
        Dictionary of name to array. Names are the file's own: the path of the
        dataset below the weights' group, or the artifact's tensor names.

    Raises:
        NotAnArtifactError: If the file is of no known kind.
        CorruptArtifactError: If the file is damaged.
        UnsafeArtifactError: If the file refers to other files.
        LimitExceededError: If it declares sizes beyond the limits.

    Example:
    ```python
    for name, array in read_arrays("model.weights.h5").items():
        print(name, array.shape, array.dtype)
    ```
    """
    path = pathlib.Path(path)
    with open(path, "rb") as file:
        start = file.read(8)
    if start[:4] == b"PK\x03\x04":
        return _read_archive(path)
    if start == _HDF5_SIGNATURE:
        return _read_hdf5(path)
    raise NotAnArtifactError(
        f"Expected a Keras `.h5`, `.weights.h5` or `.keras` file or a "
        f"keras_squeeze artifact. Received: {path}, which starts with "
        f"{start!r}"
    )


def _read_hdf5(path: pathlib.Path) -> dict[str, np.ndarray]:
    from keras_squeeze import artifact

    try:
        with artifact.read(path) as opened:
            return dict(opened.decode_all())
    except NotAnArtifactError:
        with open_store(path, str(path), path.stat().st_size) as store:
            return store.read_all()


def _read_archive(path: pathlib.Path) -> dict[str, np.ndarray]:
    from keras_squeeze.bridges.keras_archives import open_archive

    with open_archive(path) as archive, archive.open_weights() as store:
        return store.read_all()


class WeightStore:
    """The arrays of an open HDF5 file of Keras, each read when asked for.

    Args:
        file: `h5py.File`.
        where: String. The file, for messages.
        size: Integer. Bytes that the arrays take up as stored.
        is_shard: Boolean. Whether it holds some of a model's groups only, of
            any name. Defaults to `False`.

    Raises:
        NotAnArtifactError: If Keras did not write it.
        UnsafeArtifactError: If it refers to other files.
        LimitExceededError: If it declares sizes beyond the limits.
    """

    def __init__(
        self, file: h5py.File, where: str, size: int, is_shard: bool = False
    ) -> None:
        self.where = where
        #: Whether the names are those of Keras 3, by the model's attributes.
        self.is_keras_3 = is_shard or _layout(file, where) == _KERAS_3
        root = file if is_shard else _weights_group(file, where)
        self._datasets = dict(_walk(root, where))
        found = self._datasets.values()
        declared = sum(_checked_bytes(dataset, where) for dataset in found)
        check_size(declared, size, where)

    @property
    def names(self) -> list[str]:
        """Paths of all arrays, in the file's order."""
        return list(self._datasets)

    def read(self, name: str) -> np.ndarray:
        """One array.

        Raises:
            CorruptArtifactError: If it cannot be read.
        """
        with _as_corrupt(self.where):
            return _read_dataset(self._datasets[name])

    def read_all(self) -> dict[str, np.ndarray]:
        """All arrays by their path."""
        return {name: self.read(name) for name in self.names}


@contextlib.contextmanager
def open_store(
    source: Any, where: str, size: int, is_shard: bool = False
) -> Iterator[WeightStore]:
    """Opens an HDF5 file of Keras that is no artifact.

    Args:
        source: Path or binary file.
        where: String. The file, for messages.
        size: Integer. Bytes that the file takes up as stored.
        is_shard: Boolean. Whether it is one of several. Defaults to `False`.

    Yields:
        `WeightStore`.

    Raises:
        ArtifactError: If the file is damaged, foreign or unsafe.
    """
    import h5py

    with contextlib.ExitStack() as opened:
        with _as_corrupt(where):
            file = opened.enter_context(h5py.File(source, "r"))
            store = WeightStore(file, where, size, is_shard)
        yield store


@contextlib.contextmanager
def _as_corrupt(where: str) -> Iterator[None]:
    try:
        yield
    except ArtifactError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CorruptArtifactError(
            f"Expected a readable HDF5 file with Keras weights: {error}. "
            f"Received: {where}"
        ) from error


def _layout(file: h5py.File, where: str) -> str:
    """Which of the groups that Keras makes at the root there is."""
    import h5py

    for name in file:
        _check_link(file, name, where)
    known = [n for n in _ROOT_GROUPS if isinstance(file.get(n), h5py.Group)]
    if "model_weights" in known:
        return "model_weights"
    return _KERAS_3 if known else ""


def _weights_group(file: h5py.File, where: str) -> h5py.Group:
    """The group that holds the weights, by the three layouts Keras writes."""
    layout = _layout(file, where)
    if layout == "model_weights":
        return file["model_weights"]
    if layout or "layer_names" in file.attrs:
        return file
    raise NotAnArtifactError(
        "Expected an HDF5 file that Keras or keras_squeeze wrote, with a group "
        f"`model_weights`, `layers` or `vars`. Received: {where} with "
        f"{sorted(file)[:20]}"
    )


def _walk(root: h5py.Group, where: str) -> Iterator[tuple[str, h5py.Dataset]]:
    import h5py

    seen: set[int] = set()
    count = 0
    stack: list[tuple[str, h5py.Group, int]] = [("", root, 0)]
    while stack:
        prefix, group, depth = stack.pop()
        address = h5py.h5o.get_info(group.id).addr
        too_many = len(seen) + count > MAX_OBJECTS or depth > MAX_DEPTH
        if address in seen or too_many:
            raise UnsafeArtifactError(
                f"Expected a tree of at most {MAX_OBJECTS:,} objects, "
                f"{MAX_DEPTH} deep, each group once. "
                f"Received: group {group.name!r} in {where}"
            )
        seen.add(address)
        below: list[tuple[str, h5py.Group, int]] = []
        for name in group:
            if not prefix and name in _OPTIMIZER_GROUPS:
                continue
            _check_link(group, name, where)
            item = group[name]
            if isinstance(item, h5py.Group):
                below.append((f"{prefix}{name}/", item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                count += 1
                yield prefix + name, item
        stack.extend(reversed(below))


def _check_link(group: h5py.Group, name: str, where: str) -> None:
    import h5py

    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise UnsafeArtifactError(
            "Expected hard links only, so that no other file can be read. "
            f"Received: {type(link).__name__} {group.name}/{name} in {where}"
        )


def _checked_bytes(dataset: h5py.Dataset, where: str) -> int:
    """The declared size of a dataset that is safe to read, in bytes."""
    outside = bool(dataset.external) or dataset.is_virtual
    if outside or dataset.shape is None:
        raise UnsafeArtifactError(
            "Expected a dataset stored in the file itself, not external, "
            f"virtual or empty. Received: {dataset.name} in {where}"
        )
    if dataset.dtype.kind not in "biufc" and dataset.dtype != np.dtype("V2"):
        raise UnsafeArtifactError(
            "Expected a dataset of booleans, integers, floats, bfloat16 or "
            f"complex numbers. Received: {dataset.name} of dtype "
            f"{dataset.dtype} in {where}"
        )
    return int(math.prod(dataset.shape) * dataset.dtype.itemsize)


def check_size(declared: int, stored: int, where: str) -> None:
    """Raises `LimitExceededError` if a file declares too much for its size."""
    limit = min(MAX_BYTES, max(_FREE_BYTES, MAX_EXPANSION * stored))
    if declared > limit:
        raise LimitExceededError(
            f"Expected at most {limit:,} bytes of weights in a file of "
            f"{stored:,} bytes. Received: {declared:,} bytes declared in "
            f"{where}"
        )


def _read_dataset(dataset: h5py.Dataset) -> np.ndarray:
    value = np.asarray(dataset[()])
    if value.dtype == np.dtype("V2"):
        # Keras writes bfloat16 as two opaque bytes, the legacy `.h5` without
        # a word about it; h5py knows no such type.
        import ml_dtypes

        return value.view(ml_dtypes.bfloat16)
    # h5py reads booleans and big-endian numbers in the file's own type.
    return value.astype(value.dtype.newbyteorder("="), copy=False)
