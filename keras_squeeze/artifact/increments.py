"""Files that hold what changed since another one: their base."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_squeeze.artifact.base_reference import BaseReference, Run
from keras_squeeze.artifact.manifest import (
    BASE,
    Manifest,
    Part,
    TensorRecord,
)
from keras_squeeze.codecs.relative import SAME
from keras_squeeze.errors import BaseMismatchError, CorruptArtifactError

if TYPE_CHECKING:
    from keras_squeeze.artifact.opened import Artifact

#: Most files that one may need below it.
MAX_DEPTH = 64


def check_base(manifest: Manifest, base: Artifact | None) -> None:
    """Raises unless `base` is the file that the manifest asks for.

    Args:
        manifest: `Manifest` of the file that was opened.
        base: Optional `Artifact`, the base that was given.

    Raises:
        BaseMismatchError: If the file needs a base and there is none, or
            another one.
    """
    if manifest.base is None:
        return
    expected = manifest.base.digest
    if base is None:
        raise BaseMismatchError(
            "Expected the base of a file that holds only what changed since: "
            "give the artifact with the digest "
            f"{expected}, as `ks.load_model(path, base=...)`. "
            "Received: base=None"
        )
    if base.digest != expected:
        raise BaseMismatchError(
            f"Expected the base with the digest {expected}. Received: "
            f"{base.path!r} with the digest {base.digest}"
        )
    _check_depth(base)


def with_base(artifact: Artifact, base: Artifact | None) -> Artifact:
    """An increment that was opened, joined with its base.

    Args:
        artifact: `Artifact` just opened.
        base: Optional `Artifact`, opened with its payload.

    Returns:
        `Artifact` whose manifest tells of all tensors and the whole model;
        the same object if the file has no base.

    Raises:
        BaseMismatchError: As `check_base` does.
        CorruptArtifactError: If the file refers to what the base has not.
    """
    check_base(artifact.manifest, base)
    if base is None or artifact.manifest.base is None:
        return artifact
    reference = artifact.manifest.base
    manifest = dataclasses.replace(
        artifact.manifest,
        tensors=_fill(artifact.manifest.tensors, reference, base.tensors),
        model=_whole_model(artifact.manifest.model, reference, base.manifest),
    )
    return dataclasses.replace(artifact, manifest=manifest, base=base)


def refer_to_base(manifest: Manifest, base: Artifact) -> Manifest:
    """The manifest of an increment, without what the base says already.

    Args:
        manifest: `Manifest` of all tensors and the whole model.
        base: `Artifact` that its tensors were coded against.

    Returns:
        `Manifest` to be written: `with_base` undoes this.
    """
    _check_depth(base)
    known = base.manifest.model
    shared = tuple(
        sorted(
            key
            for key, value in manifest.model.items()
            if key not in ("class_name", "name")
            and key in known
            and known[key] == value
        )
    )
    tensors, runs = _leave_out(manifest.tensors, base.tensors)
    return dataclasses.replace(
        manifest,
        tensors=tensors,
        model={k: v for k, v in manifest.model.items() if k not in shared},
        requires=tuple(sorted({*manifest.requires, BASE})),
        base=BaseReference(base.digest, shared, runs),
    )


def _check_depth(base: Artifact) -> None:
    depth, below = 1, base.base
    while below is not None:
        depth, below = depth + 1, below.base
    if depth > MAX_DEPTH:
        raise BaseMismatchError(
            f"Expected a chain of at most {MAX_DEPTH} bases; write a whole "
            f"file with `apply`. Received: {base.path!r} with {depth - 1}"
        )


def _leave_out(
    tensors: tuple[TensorRecord, ...], known: tuple[TensorRecord, ...]
) -> tuple[tuple[TensorRecord, ...], tuple[Run, ...]]:
    places = {record.name: place for place, record in enumerate(known)}
    whole = {record.name: _unchanged(record) for record in known}
    listed: list[TensorRecord] = []
    runs: list[Run] = []
    for tensor in tensors:
        if dataclasses.replace(tensor, offset=0) != whole.get(tensor.name):
            listed.append(tensor)
            continue
        first = places[tensor.name]
        place, start, count = runs[-1] if runs else (-1, 0, 0)
        if place == len(listed) and start + count == first:
            runs[-1] = place, start, count + 1
        else:
            runs.append((len(listed), first, 1))
    return tuple(listed), tuple(runs)


def _fill(
    listed: tuple[TensorRecord, ...],
    reference: BaseReference,
    known: tuple[TensorRecord, ...],
) -> tuple[TensorRecord, ...]:
    filled: list[TensorRecord] = []
    used = 0
    for place, first, count in reference.unchanged:
        if place > len(listed) or first + count > len(known):
            raise CorruptArtifactError(
                f"Expected runs among the {len(listed)} tensors of the file "
                f"and the {len(known)} of its base. "
                f"Received: {(place, first, count)}"
            )
        filled += listed[used:place]
        filled += [_unchanged(record) for record in known[first:][:count]]
        used = place
        if len(filled) > len(listed) + len(known):
            break
    filled += listed[used:]
    names = {tensor.name for tensor in filled}
    if len(names) != len(filled):
        raise CorruptArtifactError(
            "Expected every tensor once in a file and what it takes from its "
            f"base. Received: {len(filled) - len(names)} repeated"
        )
    return tuple(filled)


def _unchanged(record: TensorRecord) -> TensorRecord:
    parts = tuple(
        Part(part.role, part.dtype, part.shape, {"id": SAME}, 0)
        for part in record.parts
    )
    return dataclasses.replace(
        record, parts=parts, crc32=0, offset=0, base=None
    )


def _whole_model(
    model: Mapping[str, Any], reference: BaseReference, base: Manifest
) -> dict[str, Any]:
    missing = [key for key in reference.model if key not in base.model]
    if missing:
        raise CorruptArtifactError(
            "Expected a base that says what a file takes from it. "
            f"Received: no {missing[:5]} of its model"
        )
    return {**{key: base.model[key] for key in reference.model}, **model}
