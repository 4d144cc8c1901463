"""Writing an artifact: code the tensors, describe them, write atomically."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from keras_squeeze import __version__
from keras_squeeze.artifact.container import write_skeleton
from keras_squeeze.artifact.encodings import LATER_ENCODINGS
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import Manifest, TensorRecord
from keras_squeeze.artifact.reading import Artifact, equal_bits, read
from keras_squeeze.artifact.stream import pack_stream_start
from keras_squeeze.artifact.tensor_encoding import encode_tensors
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.artifact.writing import check_target, write_atomically
from keras_squeeze.errors import CorruptArtifactError


def write(
    path: str,
    tensors: Sequence[TensorInput],
    model: Mapping[str, Any],
    *,
    keras_version: str,
    backend: str = "tensorflow",
    profile: str = "auto",
    overwrite: bool = True,
    executor: Executor | None = None,
) -> Artifact:
    """Codes tensors and writes them as one artifact.

    The target is the old file or the complete new one at any moment: the new
    file is written beside it, flushed, read back, decoded and compared with
    `tensors` before it takes its place.

    Args:
        path: String. Ends in `.h5`.
        tensors: Sequence of `TensorInput`, in model order.
        model: Mapping. JSON-ready description, `Manifest.model`.
        keras_version: String. The version of Keras that made `model`.
        backend: String. Recorded for Keras' loader. Defaults to
            `"tensorflow"`.
        profile: String. Which codecs may be used: `"fast"`, `"small"` or
            `"auto"`; see `codecs.profiles`. Defaults to `"auto"`.
        overwrite: Boolean. Whether to replace an existing file. Defaults to
            `True`.
        executor: Optional `concurrent.futures.Executor` that codes tensors
            in parallel; the bytes do not depend on it.

    Returns:
        The `Artifact` as read back from the disk.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    check_target(path, overwrite)
    apply = map if executor is None else executor.map
    coded = encode_tensors(tensors, profile, apply)
    payload = b"".join(data for _, data in coded)
    manifest = Manifest(
        tensors=_place([record for record, _ in coded]),
        payload_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        model=model,
        generator=f"keras_squeeze {__version__}",
        requires=tuple(sorted({t.encoding for t in tensors} & LATER_ENCODINGS)),
    )
    start = pack_stream_start(manifest.to_json(), len(payload))
    written: list[Artifact] = []
    write_atomically(
        path,
        functools.partial(
            write_skeleton,
            stream=[start, payload],
            keras_version=keras_version,
            backend=backend,
        ),
        lambda temporary: written.append(_read_back(temporary, tensors)),
    )
    return dataclasses.replace(written[0], path=path)


def _place(records: Sequence[TensorRecord]) -> tuple[TensorRecord, ...]:
    placed, offset = [], 0
    for record in records:
        placed.append(dataclasses.replace(record, offset=offset))
        offset += record.stored_bytes
    return tuple(placed)


def _read_back(path: str, tensors: Sequence[TensorInput]) -> Artifact:
    # Written a moment ago by us: there is no size to disbelieve.
    artifact = read(path, Limits(max_decoded_bytes=1 << 62))
    decoded = artifact.decode_all()
    for tensor in tensors:
        if not equal_bits(decoded[tensor.name], tensor.decode()):
            raise CorruptArtifactError(
                f"Expected the tensor {tensor.name!r} to decode to what was "
                "encoded; nothing was written. Received: other values"
            )
    return artifact
