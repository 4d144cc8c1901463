"""The manifest: what tensors a stream holds, how and where.

It is JSON, compressed in the stream. Unknown keys are ignored, so that later
versions may say more; an unknown entry of `requires` is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from keras_squeeze.artifact.base_reference import (
    BaseReference,
    base_from_json,
)
from keras_squeeze.artifact.encodings import (
    ENCODINGS,
    LATER_ENCODINGS,
    check_layout,
)
from keras_squeeze.artifact.limits import Limits, check_limit
from keras_squeeze.artifact.manifest_json import parse_json
from keras_squeeze.codecs.dtypes import DTYPE_NAMES, dtype_from_name
from keras_squeeze.codecs.relative import is_relative
from keras_squeeze.errors import (
    CorruptArtifactError,
    SqueezeError,
    UnsupportedVersionError,
)

#: What the `requires` of a file that holds changes to another one lists.
BASE = "base"

#: What a file may ask of a reader: encodings newer than the format, a base.
KNOWN_REQUIREMENTS = LATER_ENCODINGS | {BASE}


@dataclasses.dataclass(frozen=True)
class Part:
    """One coded array of a tensor.

    Args:
        role: String. `"values"`, `"codes"`, `"scale"`, `"zero_point"` or
            `"codebook"`.
        dtype: String. Name of the array's dtype.
        shape: Tuple of integers.
        codec: Mapping. The codec's config, with its `"id"`.
        stored_bytes: Integer. Size in the payload, in bytes.
    """

    role: str
    dtype: str
    shape: tuple[int, ...]
    codec: Mapping[str, Any]
    stored_bytes: int

    @property
    def decoded_bytes(self) -> int:
        """Size of the decoded array in bytes."""
        return math.prod(self.shape) * _item_bytes(self.dtype)


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """One variable of the model.

    Args:
        name: String. The variable's path in the model.
        dtype: String. Name of the variable's dtype.
        shape: Tuple of integers.
        parts: Tuple of `Part`, in payload order.
        crc32: Integer. CRC-32 of the stored bytes of all parts.
        encoding: String. `"values"` (one part, the array itself), `"packed"`
            (codes that the variable holds bit-packed), or, of a variable
            that is floating-point, `"quantized"` (codes and scale),
            `"affine"` (and a zero point) or `"codebook"` (and a codebook).
        parameters: Mapping. What the encoding needs beside its parts.
        nonzero: Optional integer. How many values or codes are not zero.
        offset: Integer. Where its first part starts in the payload.
        base: Optional string. The tensor of the base that its parts are
            coded against. Defaults to `None`, the one of its own name.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    crc32: int
    encoding: str = "values"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    nonzero: int | None = None
    offset: int = 0
    base: str | None = None

    @property
    def base_name(self) -> str:
        """The name of the tensor that this one is coded against, if any."""
        return self.name if self.base is None else self.base

    @property
    def is_relative(self) -> bool:
        """Whether a part of it is coded against the base's tensor."""
        return any(is_relative(part.codec) for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """Size in the payload in bytes."""
        return sum(part.stored_bytes for part in self.parts)

    @property
    def size(self) -> int:
        """Number of values: of codes, where the variable is bit-packed."""
        if self.encoding == "packed":
            return math.prod(self.parts[0].shape)
        return math.prod(self.shape)

    @property
    def decoded_bytes(self) -> int:
        """Bytes that decoding allocates: the parts and the variable."""
        parts = sum(part.decoded_bytes for part in self.parts)
        return parts + math.prod(self.shape) * _item_bytes(self.dtype)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything about an artifact but the coded bytes.

    Args:
        tensors: Tuple of `TensorRecord`, in payload order.
        payload_bytes: Integer. Size of the payload.
        payload_sha256: String. SHA-256 of the payload, in hex.
        model: Mapping. `class_name`, `name`, and if the model can be rebuilt
            its Keras `config`; `quantized_layers` lists the layers that hold
            codes.
        generator: String. The version that wrote the file.
        requires: Tuple of strings. Features a reader must know.
        base: Optional `BaseReference`. What the file holds changes to.
            Defaults to `None`: it is whole.
    """

    tensors: tuple[TensorRecord, ...]
    payload_bytes: int
    payload_sha256: str
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    generator: str = ""
    requires: tuple[str, ...] = ()
    base: BaseReference | None = None

    def to_json(self) -> bytes:
        """The manifest as canonical UTF-8 JSON."""
        content: dict[str, Any] = {
            "generator": self.generator,
            "model": self.model,
            "payload": {
                "bytes": self.payload_bytes,
                "sha256": self.payload_sha256,
            },
            "requires": list(self.requires),
            "tensors": [_tensor_to_json(tensor) for tensor in self.tensors],
        }
        if self.base is not None:
            content["base"] = self.base.to_json()
        text = json.dumps(
            content, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return text.encode()

    @classmethod
    def from_json(cls, data: bytes, limits: Limits) -> Manifest:
        """Reads and checks a manifest.

        Args:
            data: Bytes. UTF-8 JSON.
            limits: A `Limits` object.

        Returns:
            A `Manifest` whose offsets are filled in and whose sizes are
            within the limits.

        Raises:
            CorruptArtifactError: If it is not what `to_json` writes.
            LimitExceededError: If it declares more than the limits allow.
            UnsupportedVersionError: If it requires an unknown feature.
        """
        content = parse_json(data, limits)
        try:
            return _manifest_from_json(content, limits)
        except SqueezeError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise CorruptArtifactError(
                "Expected a manifest with `tensors`, `payload` and `model`. "
                f"Received: {type(error).__name__}: {error}"
            ) from error


def _tensor_to_json(tensor: TensorRecord) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "crc32": tensor.crc32,
        "parts": [_part_to_json(part, tensor) for part in tensor.parts],
    }
    if tensor.encoding != "values":
        record["encoding"] = tensor.encoding
        record["parameters"] = dict(tensor.parameters)
    if tensor.nonzero is not None:
        record["nonzero"] = tensor.nonzero
    if tensor.base is not None:
        record["base"] = tensor.base
    return record


def _part_to_json(part: Part, tensor: TensorRecord) -> dict[str, Any]:
    record: dict[str, Any] = {"bytes": part.stored_bytes}
    codec = dict(part.codec)
    record["codec"] = codec["id"] if len(codec) == 1 else codec
    if part.role != "values":
        record["role"] = part.role
    if part.dtype != tensor.dtype:
        record["dtype"] = part.dtype
    if part.shape != tensor.shape:
        record["shape"] = list(part.shape)
    return record


def _manifest_from_json(content: Any, limits: Limits) -> Manifest:
    requires = tuple(str(item) for item in content.get("requires", ()))
    unknown = sorted(set(requires) - KNOWN_REQUIREMENTS)
    if unknown:
        raise UnsupportedVersionError(
            "Expected a file that needs no feature unknown to this version; "
            f"install a newer keras_squeeze. Received: {unknown}, written by "
            f"{content.get('generator')!r}"
        )
    check_limit(
        "a number of tensors", len(content["tensors"]), limits.max_tensors
    )
    payload = content["payload"]
    manifest = Manifest(
        tensors=_place(content["tensors"], limits),
        payload_bytes=_natural(payload["bytes"], "payload bytes"),
        payload_sha256=str(payload["sha256"]),
        model=dict(content["model"]),
        generator=str(content.get("generator", "")),
        requires=requires,
        base=base_from_json(content.get("base"), BASE in requires),
    )
    _check_whole(manifest)
    return manifest


def _place(records: list[Any], limits: Limits) -> tuple[TensorRecord, ...]:
    placed: list[TensorRecord] = []
    offset = 0
    for record in records:
        tensor = _tensor_from_json(record, offset, limits)
        offset += tensor.stored_bytes
        placed.append(tensor)
    return tuple(placed)


def _tensor_from_json(
    record: Mapping[str, Any], offset: int, limits: Limits
) -> TensorRecord:
    name, encoding = record["name"], record.get("encoding", "values")
    if not isinstance(name, str) or encoding not in ENCODINGS:
        raise CorruptArtifactError(
            f"Expected a named tensor in one of the encodings {ENCODINGS}. "
            f"Received: name={name!r}, encoding={encoding!r}"
        )
    name_bytes = len(name.encode(errors="surrogatepass"))
    check_limit("a name's bytes", name_bytes, limits.max_name_bytes)
    dtype, shape = record["dtype"], _shape(record["shape"], limits)
    nonzero = record.get("nonzero")
    tensor = TensorRecord(
        name=name,
        dtype=_dtype_name(dtype),
        shape=shape,
        parts=tuple(
            _part_from_json(part, dtype, shape, limits)
            for part in record["parts"]
        ),
        crc32=_natural(record["crc32"], "crc32"),
        encoding=encoding,
        parameters=dict(record.get("parameters", {})),
        nonzero=None if nonzero is None else _natural(nonzero, "nonzero"),
        offset=offset,
        base=_base_name(record.get("base"), limits),
    )
    _check_layout(tensor)
    return tensor


def _base_name(name: Any, limits: Limits) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"a name must be a string, got {name!r}")
    name_bytes = len(name.encode(errors="surrogatepass"))
    check_limit("a name's bytes", name_bytes, limits.max_name_bytes)
    return name


def _check_layout(tensor: TensorRecord) -> None:
    parts = [(part.role, part.dtype, part.shape) for part in tensor.parts]
    try:
        check_layout(tensor.encoding, tensor.parameters, tensor.shape, parts)
    except ValueError as error:
        raise CorruptArtifactError(
            f"Expected parts that make the tensor {tensor.name!r} of shape "
            f"{tensor.shape} in the encoding {tensor.encoding!r}. "
            f"Received: {error}"
        ) from error


def _part_from_json(
    record: Mapping[str, Any],
    dtype: str,
    shape: tuple[int, ...],
    limits: Limits,
) -> Part:
    codec = record["codec"]
    return Part(
        role=str(record.get("role", "values")),
        dtype=_dtype_name(record.get("dtype", dtype)),
        shape=_shape(record["shape"], limits) if "shape" in record else shape,
        codec={"id": codec} if isinstance(codec, str) else dict(codec),
        stored_bytes=_natural(record["bytes"], "bytes of a part"),
    )


def _shape(value: Any, limits: Limits) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a shape must be a list, got {value!r}")
    check_limit("a rank", len(value), limits.max_rank)
    return tuple(_natural(size, "dimension") for size in value)


@functools.lru_cache(maxsize=64)
def _item_bytes(dtype: str) -> int:
    # Looked up once: a file may have a hundred thousand tensors.
    return dtype_from_name(dtype).itemsize


def _dtype_name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a dtype must be a string, got {value!r}")
    if value in DTYPE_NAMES:
        return value
    try:
        return dtype_from_name(value).name
    except SqueezeError as error:
        raise CorruptArtifactError(str(error)) from error


def _natural(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an integer, got {value!r}")
    if not 0 <= value < 1 << 63:
        raise CorruptArtifactError(
            f"Expected {what} between 0 and 2**63. Received: {value}"
        )
    return value


def _check_whole(manifest: Manifest) -> None:
    names = Counter(tensor.name for tensor in manifest.tensors)
    if len(names) != len(manifest.tensors):
        repeated = [name for name, count in names.most_common(5) if count > 1]
        raise CorruptArtifactError(
            f"Expected every tensor name once. Received: {repeated}"
        )
    stored = sum(tensor.stored_bytes for tensor in manifest.tensors)
    if stored != manifest.payload_bytes:
        raise CorruptArtifactError(
            f"Expected tensors that fill the payload of "
            f"{manifest.payload_bytes} bytes. Received: {stored} bytes"
        )
