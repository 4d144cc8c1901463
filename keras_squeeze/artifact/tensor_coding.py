"""One tensor <-> its coded parts: the step between arrays and the payload."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_squeeze import codecs
from keras_squeeze.artifact.manifest import Part, TensorRecord
from keras_squeeze.codecs.dtypes import dtype_from_name
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.quantizers import QuantizedTensor, pack_codes, unpack_codes

_ROLES = {
    "values": ("values",),
    "packed": ("codes",),
    "quantized": ("codes", "scale"),
}


@dataclasses.dataclass(frozen=True)
class TensorInput:
    """A variable on its way into a file; picklable, for any executor.

    Args:
        name: String. The variable's path.
        shape: Tuple of integers. The variable's shape.
        dtype: String. The variable's dtype.
        arrays: Mapping of role to array, as `TensorRecord.encoding` says.
        encoding: String. `"values"`, `"packed"` or `"quantized"`.
        parameters: Mapping. JSON-ready, what the encoding needs to decode.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    arrays: Mapping[str, np.ndarray]
    encoding: str = "values"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_values(cls, name: str, values: np.ndarray) -> TensorInput:
        """A variable stored as it is."""
        return cls(name, values.shape, values.dtype.name, {"values": values})

    @classmethod
    def from_packed(
        cls, name: str, packed: np.ndarray, width: int, count: int
    ) -> TensorInput:
        """A `uint8` variable that holds `count` codes of `width` bits."""
        codes = unpack_codes(packed, width, count)
        parameters = {"width": width}
        return cls(
            name, packed.shape, "uint8", {"codes": codes}, "packed", parameters
        )

    @classmethod
    def from_quantized(
        cls, name: str, dtype: str, tensor: QuantizedTensor
    ) -> TensorInput:
        """A floating-point variable stored as codes and scale."""
        parameters = {
            "axis": list(tensor.axis),
            "bits": tensor.bits,
            "group_size": tensor.group_size,
        }
        arrays = {"codes": tensor.codes, "scale": tensor.scale}
        shape = tensor.codes.shape
        return cls(name, shape, dtype, arrays, "quantized", parameters)

    def decode(self) -> np.ndarray:
        """The array that a reader will get."""
        return assemble(
            self.encoding, self.arrays, self.parameters, self.shape, self.dtype
        )


def encode_tensor(tensor: TensorInput) -> tuple[TensorRecord, bytes]:
    """Codes every part with the codec that makes it smallest.

    Args:
        tensor: A `TensorInput`.

    Returns:
        Pair of the record (its offset still 0) and the stored bytes.
    """
    parts, stored = [], []
    for role in _ROLES[tensor.encoding]:
        array = np.asarray(tensor.arrays[role])
        codec, data = codecs.encode_smallest(array)
        config = codec.get_config()
        parts.append(
            Part(role, array.dtype.name, array.shape, config, len(data))
        )
        stored.append(data)
    payload = b"".join(stored)
    first = np.asarray(tensor.arrays[_ROLES[tensor.encoding][0]])
    record = TensorRecord(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tuple(tensor.shape),
        parts=tuple(parts),
        crc32=zlib.crc32(payload),
        encoding=tensor.encoding,
        parameters=dict(tensor.parameters),
        nonzero=int(np.count_nonzero(first)),
    )
    return record, payload


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


def _decode_batch(
    records: Sequence[TensorRecord], payloads: Sequence[bytes]
) -> list[np.ndarray]:
    parts = [part for record in records for part in record.parts]
    chunks = [
        chunk
        for record, payload in zip(records, payloads, strict=True)
        for chunk in _split(record, payload)
    ]
    decoded = iter(_decode_parts(parts, chunks))
    return [
        _assemble_record(
            record, {part.role: next(decoded) for part in record.parts}
        )
        for record in records
    ]


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


def _split(record: TensorRecord, payload: bytes) -> list[bytes]:
    chunks, start = [], 0
    for part in record.parts:
        chunks.append(payload[start : start + part.stored_bytes])
        start += part.stored_bytes
    return chunks


def _decode_parts(
    parts: Sequence[Part], chunks: Sequence[bytes]
) -> list[np.ndarray]:
    items = [
        (
            codecs.get(dict(part.codec)),
            (chunk, part.shape, dtype_from_name(part.dtype)),
        )
        for part, chunk in zip(parts, chunks, strict=True)
    ]
    return codecs.decode_all(items)


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
    except (SqueezeError, ValueError, TypeError, KeyError) as error:
        raise CorruptArtifactError(
            f"Expected parts that make the tensor {record.name!r} of shape "
            f"{record.shape}. Received: {error}"
        ) from error


def assemble(
    encoding: str,
    arrays: Mapping[str, np.ndarray],
    parameters: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: str,
) -> np.ndarray:
    """Makes the variable's array from its decoded parts.

    Args:
        encoding: String. `"values"`, `"packed"` or `"quantized"`.
        arrays: Mapping of role to array.
        parameters: Mapping. The encoding's parameters.
        shape: Tuple of integers. The variable's shape.
        dtype: String. The variable's dtype.

    Returns:
        Array of that shape and dtype.

    Raises:
        ValueError: If the parts do not make such an array.
    """
    if encoding == "values":
        array = arrays["values"]
    elif encoding == "packed":
        array = pack_codes(arrays["codes"].ravel(), int(parameters["width"]))
    else:
        array = _dequantize(arrays, parameters)
    array = array.astype(dtype_from_name(dtype), copy=False)
    if array.shape != tuple(shape) or array.size != math.prod(shape):
        raise ValueError(f"an array of shape {array.shape}")
    return array


def _dequantize(
    arrays: Mapping[str, np.ndarray], parameters: Mapping[str, Any]
) -> np.ndarray:
    return QuantizedTensor(
        codes=arrays["codes"],
        scale=arrays["scale"],
        bits=int(parameters["bits"]),
        axis=tuple(int(axis) for axis in parameters["axis"]),
        group_size=parameters["group_size"],
    ).dequantize()
