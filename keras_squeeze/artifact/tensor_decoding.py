"""Stored bytes to variables: all tensors of a file in one call a codec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_squeeze import codecs
from keras_squeeze.artifact.manifest import Part, TensorRecord
from keras_squeeze.artifact.references import Reference
from keras_squeeze.artifact.relative_parts import (
    read_part,
    restore_parts,
)
from keras_squeeze.artifact.tensor_input import assemble
from keras_squeeze.codecs.dtypes import dtype_from_name
from keras_squeeze.errors import (
    BaseMismatchError,
    CorruptArtifactError,
    SqueezeError,
    UnknownIdentifierError,
)

if TYPE_CHECKING:
    from keras_squeeze.artifact.opened import Artifact


def decode_tensors(
    records: Sequence[TensorRecord],
    payloads: Sequence[bytes],
    base: Artifact | None = None,
) -> list[np.ndarray]:
    """Decodes tensors, each codec all its parts in one call.

    Args:
        records: Sequence of `TensorRecord`.
        payloads: Sequence of bytes, the stored bytes of each.
        base: Optional `Artifact` that tensors may be coded against. Defaults
            to `None`.

    Returns:
        List of arrays of the records' shapes and dtypes.

    Raises:
        CorruptArtifactError: If the bytes are not what a codec writes.
        BaseMismatchError: If a tensor needs a base and there is none.
    """
    try:
        return _decode_batch(records, payloads, base)
    except (CorruptArtifactError, UnknownIdentifierError) as error:
        raise _naming_the_tensor(records, payloads, base, error) from error


def decode_parts(
    records: Sequence[TensorRecord],
    payloads: Sequence[bytes],
    base: Artifact | None = None,
) -> list[dict[str, np.ndarray]]:
    """Decodes the parts of tensors, each codec all of them in one call.

    Args:
        records: Sequence of `TensorRecord`.
        payloads: Sequence of bytes, the stored bytes of each.
        base: Optional `Artifact` that tensors may be coded against. Defaults
            to `None`.

    Returns:
        List of dictionaries of role to array, one a record.

    Raises:
        CorruptArtifactError: If the bytes are not what a codec writes.
        BaseMismatchError: If a tensor needs a base and there is none.
    """
    return _decode_parts(records, payloads, base)[0]


def references_of(
    records: Sequence[TensorRecord], base: Artifact | None
) -> list[Reference | None]:
    """What tensors are coded against, each file of a chain decoded once.

    Args:
        records: Sequence of `TensorRecord`; one that `is_relative` has a
            reference.
        base: Optional `Artifact`.

    Returns:
        List of `Reference`, `None` for tensors that need none.

    Raises:
        BaseMismatchError: If one is needed and there is no base.
        CorruptArtifactError: If the base has no such tensor.
    """
    names = [record.base_name for record in records if record.is_relative]
    if not names:
        return [None] * len(records)
    found = references_named(names, base)
    return [
        found[record.base_name] if record.is_relative else None
        for record in records
    ]


def references_named(
    names: Iterable[str], base: Artifact | None
) -> dict[str, Reference]:
    """Tensors of a base, decoded, with what they were coded against.

    Args:
        names: Iterable of strings, names of tensors of the base.
        base: Optional `Artifact`.

    Returns:
        Dictionary of name to `Reference`.

    Raises:
        BaseMismatchError: If there is no base.
        CorruptArtifactError: If the base has no such tensor.
    """
    if base is None:
        raise BaseMismatchError(
            "Expected the base of a file that holds only what changed since. "
            "Received: base=None"
        )
    known = {record.name: record for record in base.tensors}
    wanted = dict.fromkeys(names)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise CorruptArtifactError(
            f"Expected tensors of the base {base.path!r}. "
            f"Received: {missing[:5]}"
        )
    records = [known[name] for name in wanted]
    arrays, below = _decode_parts(
        records, [base.stored(record) for record in records], base.base
    )
    return {
        record.name: Reference(record, parts, old and old.alone())
        for record, parts, old in zip(records, arrays, below, strict=True)
    }


def _decode_parts(
    records: Sequence[TensorRecord],
    payloads: Sequence[bytes],
    base: Artifact | None,
) -> tuple[list[dict[str, np.ndarray]], list[Reference | None]]:
    references = references_of(records, base)
    stored = [
        [read_part(*pair) for pair in _split(record, payload)]
        for record, payload in zip(records, payloads, strict=True)
    ]
    items = [[part.item for part in parts] for parts in stored]
    arrays = iter(codecs.decode_all([i for row in items for i in row if i]))
    whole = []
    for record, parts, row, reference in zip(
        records, stored, items, references, strict=True
    ):
        found = {
            part.part.role: next(arrays)
            for part, item in zip(parts, row, strict=True)
            if item is not None
        }
        if reference is not None:
            found = restore_parts(record, parts, found, reference)
        whole.append(found)
    return whole, references


def _decode_batch(
    records: Sequence[TensorRecord],
    payloads: Sequence[bytes],
    base: Artifact | None,
) -> list[np.ndarray]:
    pairs = list(zip(records, payloads, strict=True))
    fused = [_is_fusable(record) for record in records]
    others = [pair for pair, fuse in zip(pairs, fused, strict=True) if not fuse]
    arrays = iter(
        decode_parts([r for r, _ in others], [p for _, p in others], base)
    )
    return [
        _decode_fused(*pair)
        if fuse
        else _assemble_record(pair[0], next(arrays))
        for pair, fuse in zip(pairs, fused, strict=True)
    ]


def _is_fusable(record: TensorRecord) -> bool:
    """Whether codes may become floats without ever lying in memory."""
    roles = [part.role for part in record.parts]
    if record.encoding != "quantized" or roles != ["codes", "scale"]:
        return False
    if record.is_relative:
        return False
    axis = record.parameters.get("axis")
    whole = axis == [] or axis == [len(record.shape) - 1]
    return (
        whole
        and record.dtype == "float32"
        and record.parameters.get("group_size") is None
        and record.parts[0].shape == record.shape
        and codecs.get(dict(record.parts[0].codec)).decodes_scaled
    )


def _decode_fused(record: TensorRecord, payload: bytes) -> np.ndarray:
    (codes, data), scale_part = _split(record, payload)
    codec, item = _item(codes, data)
    scale_codec, scale_item = _item(*scale_part)
    scale = scale_codec.decode(*scale_item)
    channels = record.shape[-1] if record.parameters["axis"] else 1
    if scale.shape != (channels, 1) or scale.dtype != np.float32:
        raise CorruptArtifactError(
            f"Expected {channels} scales in float32 for the tensor "
            f"{record.name!r}. Received: {scale.dtype} of shape {scale.shape}"
        )
    return codec.decode_scaled(*item, scale.reshape(-1))


def _item(part: Part, data: bytes) -> tuple[codecs.Codec, codecs.EncodedItem]:
    dtype = dtype_from_name(part.dtype)
    return codecs.get(dict(part.codec)), (data, part.shape, dtype)


def _naming_the_tensor(
    records: Sequence[TensorRecord],
    payloads: Sequence[bytes],
    base: Artifact | None,
    error: SqueezeError,
) -> SqueezeError:
    for record, payload in zip(records, payloads, strict=True):
        try:
            _decode_batch([record], [payload], base)
        except (CorruptArtifactError, UnknownIdentifierError) as own:
            return type(own)(f"Tensor {record.name!r}: {own}")
    return error


def _split(record: TensorRecord, payload: bytes) -> list[tuple[Part, bytes]]:
    pairs, start = [], 0
    for part in record.parts:
        pairs.append((part, payload[start : start + part.stored_bytes]))
        start += part.stored_bytes
    return pairs


def _assemble_record(
    record: TensorRecord, arrays: Mapping[str, np.ndarray]
) -> np.ndarray:
    try:
        return assemble(
            record.encoding,
            arrays,
            record.parameters,
            record.shape,
            record.dtype,
        )
    except (SqueezeError, ValueError, TypeError, LookupError) as error:
        raise CorruptArtifactError(
            f"Expected parts that make the tensor {record.name!r} of shape "
            f"{record.shape}. Received: {error}"
        ) from error
