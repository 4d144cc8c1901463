"""Everything a file says, value by value: nothing is in it that is not here."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from keras_squeeze.artifact.access import Access, open_source
from keras_squeeze.artifact.hdf5_skeleton import Skeleton, parse_skeleton
from keras_squeeze.artifact.manifest import Manifest
from keras_squeeze.artifact.skeleton_layout import (
    BACKEND,
    DATASET,
    GROUP,
    KERAS_VERSION,
    LAYER_NAMES,
    MODEL_CONFIG,
    TOP,
    WEIGHT_NAMES,
    model_config,
)
from keras_squeeze.artifact.sources import SectionSource, Source
from keras_squeeze.artifact.stream import (
    FORMAT_VERSION,
    HEADER_BYTES,
    Header,
    parse_header,
    unpack_manifest,
)
from keras_squeeze.report import Report

COLUMNS = ("where", "key", "value")


def contents(
    path: str | os.PathLike[str], access: Access | None = None
) -> Report:
    """Lists every attribute, every field and every value of an artifact.

    Args:
        path: Path of the file.
        access: Optional `Access`. Defaults to `Access()`.

    Returns:
        A `Report` with a row a value: of the HDF5 skeleton, the stream's
        header and the manifest, the model's config among it. What is left of
        the file are the tensors' coded bytes.

    Raises:
        ArtifactError: As `artifact.inspect` does.
    """
    access = access or Access()
    with contextlib.closing(open_source(path, access)) as source:
        skeleton = parse_skeleton(source)
        stop = skeleton.stream_offset + skeleton.stream_bytes
        stream = SectionSource(source, skeleton.stream_offset, stop)
        header, manifest = _read(stream, access)
    values = (
        *_of_skeleton(skeleton),
        *_of_header(header),
        *(("manifest", *leaf) for leaf in _leaves(manifest, "")),
    )
    rows = tuple(dict(zip(COLUMNS, value, strict=True)) for value in values)
    return Report(
        f"{os.fspath(path)}: all it says", COLUMNS, rows, {"values": len(rows)}
    )


def _read(stream: Source, access: Access) -> tuple[Header, Any]:
    limits = access.limits
    start = stream.read(0, min(HEADER_BYTES, stream.size))
    header = parse_header(start, stream.size, limits)
    data = unpack_manifest(header, stream.read(0, header.payload_offset))
    # Its limits and its shape; keys that it does not know are shown too.
    Manifest.from_json(data, limits)
    return header, json.loads(data)


def _of_skeleton(skeleton: Skeleton) -> Iterator[tuple[str, str, Any]]:
    group, top = f"/{GROUP}", f"/{GROUP}/{TOP}"
    config = model_config(skeleton.stream_bytes).decode()
    yield "HDF5 /", MODEL_CONFIG, config
    for place in ("/", group):
        yield f"HDF5 {place}", KERAS_VERSION, skeleton.keras_version
        yield f"HDF5 {place}", BACKEND, skeleton.backend
    yield f"HDF5 {group}", LAYER_NAMES, ""
    yield f"HDF5 {top}", WEIGHT_NAMES, DATASET
    yield f"HDF5 {top}/{DATASET}", "bytes", skeleton.stream_bytes


def _of_header(header: Header) -> Iterator[tuple[str, str, Any]]:
    yield "header", "format version", FORMAT_VERSION
    yield "header", "stored manifest bytes", header.manifest_stored_bytes
    yield "header", "manifest bytes", header.manifest_bytes
    yield "header", "payload bytes", header.payload_bytes
    yield "header", "sha256", header.sha256.hex()


def _leaves(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list) and any(
        isinstance(item, dict | list) for item in node
    ):
        for number, item in enumerate(node):
            yield from _leaves(item, f"{place}[{number}]")
    else:
        # A list of numbers or names is one value: a shape, a vocabulary.
        yield place, json.dumps(node)
