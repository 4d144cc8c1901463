"""Parts of a tensor coded against a base's, and made whole again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_squeeze import codecs
from keras_squeeze.artifact.manifest import Part, TensorRecord
from keras_squeeze.artifact.momentum import Momentum, read_momentum
from keras_squeeze.artifact.references import (
    Reference,
    array_for,
    equal_bits,
)
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.codecs import dtypes, float_residual
from keras_squeeze.codecs.byte_cursor import ByteCursor
from keras_squeeze.codecs.dtypes import dtype_from_name
from keras_squeeze.codecs.relative import (
    DIFFERENCE,
    FLOAT_RESIDUAL,
    SAME,
    add_difference,
    difference,
    difference_dtype,
    is_relative,
)
from keras_squeeze.errors import CorruptArtifactError, SqueezeError

#: A codec's config and the bytes.
CodedPart = tuple[Mapping[str, Any], bytes]
#: In fast codecs, and in those of a profile.
Codings = tuple[CodedPart, CodedPart]


@dataclasses.dataclass(frozen=True)
class StoredPart:
    """What of a part can be read before the base's part is known.

    Args:
        part: `Part`.
        data: The bytes of its codec.
        momentum: Optional `Momentum`.
    """

    part: Part
    data: bytes | memoryview
    momentum: Momentum | None = None

    @property
    def item(self) -> tuple[codecs.Codec, codecs.EncodedItem] | None:
        """What `codecs.decode_all` decodes, if anything.

        Raises:
            SqueezeError: If there is no such codec.
        """
        dtype = dtype_from_name(self.part.dtype)
        config: Any = dict(self.part.codec)
        if is_relative(config):
            if config["id"] != DIFFERENCE:
                return None
            if not dtypes.is_integer(dtype):
                raise CorruptArtifactError(
                    "Expected differences of integers. "
                    f"Received: {self.part.dtype}"
                )
            config, dtype = config.get("codec"), difference_dtype(dtype)
        return codecs.get(config), (self.data, self.part.shape, dtype)


def read_part(part: Part, data: bytes) -> StoredPart:
    """Takes the stored bytes of a part apart.

    Raises:
        CorruptArtifactError: If they are damaged.
    """
    moves = part.codec.get("momentum", False)
    if not is_relative(part.codec) or moves is False:
        return StoredPart(part, data)
    if moves is not True:
        raise CorruptArtifactError(
            f"Expected `momentum` to be true or false. Received: {moves!r}"
        )
    cursor = ByteCursor(data, part.codec["id"])
    momentum = read_momentum(cursor, part.shape)
    return StoredPart(part, cursor.take_rest(), momentum)


def restore_parts(
    record: TensorRecord,
    stored: Sequence[StoredPart],
    found: Mapping[str, np.ndarray],
    reference: Reference,
) -> dict[str, np.ndarray]:
    """The parts of a tensor, from what was stored and the base's tensor.

    Args:
        record: `TensorRecord`.
        stored: Sequence of `StoredPart`, its parts.
        found: Mapping of role to array: parts and differences that were
            decoded already.
        reference: `Reference`.

    Returns:
        Dictionary of role to array.

    Raises:
        CorruptArtifactError: If the base's tensor does not fit.
    """
    whole: dict[str, np.ndarray] = {}
    # Codes come last: what they are compared with depends on their scale.
    for item in sorted(stored, key=lambda item: item.part.role == "codes"):
        role = item.part.role
        if is_relative(item.part.codec):
            base = _array_for(record, item, whole, reference)
            whole[role] = _restore(item, found.get(role), base)
        else:
            whole[role] = found[role]
    return {part.role: whole[part.role] for part in record.parts}


def encode_part(
    tensor: TensorInput,
    role: str,
    reference: Reference,
    plain: Callable[[], Codings],
    encode: Callable[[np.ndarray], Codings],
) -> Codings:
    """The smallest coding of a part, against the base's or without.

    Args:
        tensor: `TensorInput`.
        role: String. The part's role.
        reference: `Reference`.
        plain: Callable that codes the part without the base, in fast codecs
            and in those of the profile; not called if the part is the base's.
        encode: Callable that codes differences in both.

    Returns:
        Pair of codings.
    """
    array = np.asarray(tensor.arrays[role])
    base = _base_of(tensor, role, reference, None)
    if base is not None and equal_bits(array, base):
        return ({"id": SAME}, b""), ({"id": SAME}, b"")
    best = plain()
    for momentum in _momenta(tensor, role, reference):
        if momentum is not None:
            base = _base_of(tensor, role, reference, momentum)
        tried = base is not None and _encode(array, base, momentum, encode)
        if tried:
            best = _smaller(best[0], tried[0]), _smaller(best[1], tried[1])
    return best


def _base_of(
    tensor: TensorInput,
    role: str,
    reference: Reference,
    momentum: Momentum | None,
) -> np.ndarray | None:
    array = np.asarray(tensor.arrays[role])
    return array_for(
        role,
        array.dtype.name,
        array.shape,
        tensor.encoding,
        tensor.parameters,
        tensor.arrays,
        reference,
        momentum,
    )


def _momenta(
    tensor: TensorInput, role: str, reference: Reference
) -> list[Momentum | None]:
    if role not in ("values", "codes") or tensor.encoding == "packed":
        return [None]
    found = reference.momentum_towards(tensor.decode())
    return [None] if found is None else [None, found]


def _smaller(first: CodedPart, second: CodedPart) -> CodedPart:
    # What a config takes in the manifest is about its difference in keys.
    cost = 8 * (len(second[0]) - len(first[0]))
    return second if len(second[1]) + cost < len(first[1]) else first


def _encode(
    array: np.ndarray,
    base: np.ndarray,
    momentum: Momentum | None,
    encode: Callable[[np.ndarray], Codings],
) -> Codings | None:
    start = b"" if momentum is None else momentum.to_bytes()
    extra = {} if momentum is None else {"momentum": True}
    if dtypes.is_integer(array.dtype):
        fast, small = (
            ({"id": DIFFERENCE, "codec": _short(config), **extra}, start + data)
            for config, data in encode(difference(array, base))
        )
        return fast, small
    if not float_residual.supports(array, base):
        return None
    residual = float_residual.encode(array, base)
    if residual is None:
        return None
    coded = {"id": FLOAT_RESIDUAL, **extra}, start + residual
    return coded, coded


def _short(config: Mapping[str, Any]) -> Any:
    return config["id"] if len(config) == 1 else dict(config)


def _array_for(
    record: TensorRecord,
    stored: StoredPart,
    arrays: Mapping[str, np.ndarray],
    reference: Reference,
) -> np.ndarray:
    part, received = stored.part, "none of that kind"
    try:
        base = array_for(
            part.role,
            part.dtype,
            part.shape,
            record.encoding,
            record.parameters,
            arrays,
            reference,
            stored.momentum,
        )
    except (SqueezeError, ValueError, TypeError, LookupError) as error:
        base, received = None, str(error)
    if base is None:
        raise CorruptArtifactError(
            f"Expected the base's tensor {record.base_name!r} to have "
            f"{part.role} of dtype {part.dtype} and shape {part.shape}. "
            f"Received: {received}"
        )
    return base


def _restore(
    stored: StoredPart, found: np.ndarray | None, base: np.ndarray
) -> np.ndarray:
    part = stored.part
    if found is not None:
        return add_difference(found, base)
    if part.codec["id"] == FLOAT_RESIDUAL:
        return float_residual.decode(stored.data, base, part.shape, part.dtype)
    if stored.data:
        raise CorruptArtifactError(
            f"Expected no bytes for {part.role} that are the base's. "
            f"Received: {len(stored.data)} bytes"
        )
    return base.copy()
