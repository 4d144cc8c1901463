"""Stored bytes to variables: all tensors of a file in one call a codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_squeeze import codecs
from keras_squeeze.artifact.manifest import Part, TensorRecord
from keras_squeeze.artifact.tensor_input import assemble
from keras_squeeze.codecs.dtypes import dtype_from_name
from keras_squeeze.errors import CorruptArtifactError, SqueezeError


def decode_tensors(
    records: Sequence[TensorRecord], payloads: Sequence[bytes]
) -> list[np.ndarray]:
    """Decodes tensors, each codec all its parts in one call.

    Args:
        records: Sequence of `TensorRecord`.
        payloads: Sequence of bytes, the stored bytes of each.

    Returns:
        List of arrays of the records' shapes and dtypes.

    Raises:
        CorruptArtifactError: If the bytes are not what a codec writes.
    """
    try:
        return _decode_batch(records, payloads)
    except CorruptArtifactError as error:
        raise _naming_the_tensor(records, payloads, error) from error


def decode_parts(
    records: Sequence[TensorRecord], payloads: Sequence[bytes]
) -> list[dict[str, np.ndarray]]:
    """Decodes the parts of tensors, each codec all of them in one call.

    Args:
        records: Sequence of `TensorRecord`.
        payloads: Sequence of bytes, the stored bytes of each.

    Returns:
        List of dictionaries of role to array, one a record.

    Raises:
        CorruptArtifactError: If the bytes are not what a codec writes.
    """
    parts = [
        pair
        for record, payload in zip(records, payloads, strict=True)
        for pair in _split(record, payload)
    ]
    decoded = iter(codecs.decode_all([_item(*pair) for pair in parts]))
    return [
        {part.role: next(decoded) for part in record.parts}
        for record in records
    ]


def _decode_batch(
    records: Sequence[TensorRecord], payloads: Sequence[bytes]
) -> list[np.ndarray]:
    pairs = list(zip(records, payloads, strict=True))
    fused = [_is_fusable(record) for record in records]
    others = [pair for pair, fuse in zip(pairs, fused, strict=True) if not fuse]
    arrays = iter(decode_parts([r for r, _ in others], [p for _, p in others]))
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
    error: CorruptArtifactError,
) -> CorruptArtifactError:
    for record, payload in zip(records, payloads, strict=True):
        try:
            _decode_batch([record], [payload])
        except CorruptArtifactError as own:
            return CorruptArtifactError(f"Tensor {record.name!r}: {own}")
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
