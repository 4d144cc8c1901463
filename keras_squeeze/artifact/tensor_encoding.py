"""One variable to its record and its stored bytes."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_squeeze import codecs
from keras_squeeze.artifact.counterparts import Counterparts
from keras_squeeze.artifact.encodings import LATER_ENCODINGS, roles_of
from keras_squeeze.artifact.manifest import Part, TensorRecord
from keras_squeeze.artifact.references import Reference
from keras_squeeze.artifact.relative_parts import (
    CodedPart,
    Codings,
    encode_part,
)
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.codecs import profiles
from keras_squeeze.codecs.trellis import Trellis

if TYPE_CHECKING:
    from keras_squeeze.artifact.opened import Artifact

Coded = tuple[TensorRecord, bytes]


@dataclasses.dataclass(frozen=True)
class CodedTensor:
    """The encodings of one tensor that a profile may choose between.

    Args:
        fast: Pair of record and stored bytes, in fast codecs.
        small: The same in small ones, where the profile has them and they
            are smaller; `None` otherwise.
    """

    fast: Coded
    small: Coded | None = None


def encode_tensors(
    tensors: Iterable[TensorInput],
    profile: str = "auto",
    apply: Callable[..., Iterable[CodedTensor]] = map,
    base: Artifact | None = None,
) -> list[Coded]:
    """Codes tensors as a profile asks.

    Args:
        tensors: Iterable of `TensorInput`.
        profile: String, one of `codecs.PROFILES`. Defaults to `"auto"`.
        apply: Callable like `map`, for instance that of an executor.
        base: Optional `Artifact` to code them against, where that is
            smaller. Defaults to `None`.

    Returns:
        List of pairs: the record (its offset still 0) and the stored bytes.

    Raises:
        SqueezeError: If there is no such profile.
    """
    profiles.check_profile(profile)
    tensors = list(tensors)
    count = len(tensors)
    references: Iterable[Reference | None] = [None] * count
    if base is not None:
        references = map(Counterparts(base).find, tensors)
    coded = list(apply(encode_tensor, tensors, [profile] * count, references))
    small = profiles.choose_small(
        [len(item.fast[1]) for item in coded],
        [len(item.small[1]) if item.small else None for item in coded],
        [item.fast[0].size for item in coded],
        profile,
    )
    return [
        item.small if take and item.small else item.fast
        for item, take in zip(coded, small, strict=True)
    ]


def encode_tensor(
    tensor: TensorInput, profile: str, reference: Reference | None = None
) -> CodedTensor:
    """Codes every part with the codecs that a profile allows.

    Args:
        tensor: A `TensorInput`.
        profile: String, one of `codecs.PROFILES`.
        reference: Optional `Reference`, the base's tensor to code it against,
            where that is smaller. Defaults to `None`.

    Returns:
        `CodedTensor`.
    """
    encode = functools.partial(_encode_array, profile=profile)
    fast: dict[str, CodedPart] = {}
    small: dict[str, CodedPart] = {}
    for role in roles_of(tensor.encoding, tensor.parameters):
        trellis = tensor.trellis if role == "codes" else None
        plain = functools.partial(
            encode, np.asarray(tensor.arrays[role]), trellis=trellis
        )
        if reference is None:
            fast[role], small[role] = plain()
            continue
        fast[role], small[role] = encode_part(
            tensor, role, reference, plain, encode
        )
    whole = _coded(tensor, fast, reference)
    if all(small[role] is pair for role, pair in fast.items()):
        return CodedTensor(whole)
    return CodedTensor(whole, _coded(tensor, small, reference))


def _encode_array(
    array: np.ndarray, profile: str, trellis: Trellis | None = None
) -> Codings:
    """An array in fast codecs, and in those of the profile."""
    fast = _encode_fast(array, trellis)
    return fast, _encode_small(array, profile, trellis, fast)


def _encode_fast(array: np.ndarray, trellis: Trellis | None) -> CodedPart:
    candidates = profiles.fast_codecs(array, trellis)
    codec, data = codecs.encode_smallest(array, candidates)
    return codec.get_config(), data


def _encode_small(
    array: np.ndarray, profile: str, trellis: Trellis | None, fast: CodedPart
) -> CodedPart:
    codec = profiles.small_codec(array, profile, trellis)
    if codec is None or codec.size_hint(array) >= len(fast[1]):
        return fast
    data = codec.encode(array)
    return (codec.get_config(), data) if len(data) < len(fast[1]) else fast


def _coded(
    tensor: TensorInput,
    parts: Mapping[str, CodedPart],
    reference: Reference | None,
) -> Coded:
    roles = roles_of(tensor.encoding, tensor.parameters)
    payload = b"".join(parts[role][1] for role in roles)
    record = TensorRecord(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tuple(tensor.shape),
        parts=tuple(
            _part(role, np.asarray(tensor.arrays[role]), *parts[role])
            for role in roles
        ),
        crc32=zlib.crc32(payload),
        encoding=tensor.encoding,
        parameters=dict(tensor.parameters),
        nonzero=_count_nonzero(tensor, roles[0]),
    )
    if record.is_relative and reference is not None:
        name = reference.record.name
        if name != record.name:
            record = dataclasses.replace(record, base=name)
    return record, payload


def _count_nonzero(tensor: TensorInput, role: str) -> int:
    if tensor.encoding in LATER_ENCODINGS:
        # A code of 0 need not stand for zero there.
        return int(np.count_nonzero(tensor.decode()))
    return int(np.count_nonzero(np.asarray(tensor.arrays[role])))


def _part(
    role: str, array: np.ndarray, codec: Mapping[str, Any], data: bytes
) -> Part:
    return Part(role, array.dtype.name, array.shape, dict(codec), len(data))
