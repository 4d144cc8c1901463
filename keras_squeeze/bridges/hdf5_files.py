"""The weights of any Keras file, read without Keras and without a model.

Four kinds are read: a whole model `.h5`, a `.weights.h5`, a `.keras` archive
and a keras_squeeze artifact. Optimizer state is left out. The files may come
from anywhere: whatever could make HDF5 open another file, or allocate more
than the file justifies, is refused before any data is read.
"""

from __future__ import annotations

import io
import math
import os
import pathlib
import zipfile
import zlib
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
_WEIGHTS_MEMBER = "model.weights.h5"
_ROOT_GROUPS = ("model_weights", "layers", "vars")
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
        return dict(artifact.read(path).decode_all())
    except NotAnArtifactError:
        return _read_store(path, str(path), path.stat().st_size)


def _read_archive(path: pathlib.Path) -> dict[str, np.ndarray]:
    where = f"{path}!{_WEIGHTS_MEMBER}"
    try:
        with zipfile.ZipFile(path) as archive:
            member = _weights_member(archive, path)
            _check_size(member.file_size, member.compress_size, where)
            content = archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise CorruptArtifactError(
            f"Expected a readable `.keras` archive: {error}. Received: {where}"
        ) from error
    return _read_store(io.BytesIO(content), where, len(content))


def _weights_member(
    archive: zipfile.ZipFile, path: pathlib.Path
) -> zipfile.ZipInfo:
    names = archive.namelist()
    if _WEIGHTS_MEMBER not in names:
        raise NotAnArtifactError(
            f"Expected a `.keras` archive with a member {_WEIGHTS_MEMBER!r}, "
            f"not in shards. Received: {path} with {names[:20]}"
        )
    return archive.getinfo(_WEIGHTS_MEMBER)


def _read_store(source: Any, where: str, size: int) -> dict[str, np.ndarray]:
    import h5py

    try:
        with h5py.File(source, "r") as file:
            root, found = _weights_group(file, where), {}
            datasets = dict(_walk(root, where))
            declared = sum(_checked_bytes(d, where) for d in datasets.values())
            _check_size(declared, size, where)
            for name, dataset in datasets.items():
                found[name] = _read_dataset(dataset)
    except ArtifactError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CorruptArtifactError(
            f"Expected a readable HDF5 file with Keras weights: {error}. "
            f"Received: {where}"
        ) from error
    return found


def _weights_group(file: h5py.File, where: str) -> h5py.Group:
    """The group that holds the weights, by the three layouts Keras writes."""
    for name in file:
        _check_link(file, name, where)
    import h5py

    known = [n for n in _ROOT_GROUPS if isinstance(file.get(n), h5py.Group)]
    if "model_weights" in known:
        return file["model_weights"]
    if known or "layer_names" in file.attrs:
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


def _check_size(declared: int, stored: int, where: str) -> None:
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
