"""One variable to its record and its stored bytes."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_squeeze import codecs
from keras_squeeze.artifact.encodings import LATER_ENCODINGS, roles_of
from keras_squeeze.artifact.manifest import Part, TensorRecord
from keras_squeeze.artifact.tensor_input import TensorInput
from keras_squeeze.codecs import profiles
from keras_squeeze.codecs.codec import Codec
from keras_squeeze.codecs.trellis import Trellis

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
) -> list[Coded]:
    """Codes tensors as a profile asks.

    Args:
        tensors: Iterable of `TensorInput`.
        profile: String, one of `codecs.PROFILES`. Defaults to `"auto"`.
        apply: Callable like `map`, for instance that of an executor.

    Returns:
        List of pairs: the record (its offset still 0) and the stored bytes.

    Raises:
        SqueezeError: If there is no such profile.
    """
    profiles.check_profile(profile)
    tensors = list(tensors)
    coded = list(apply(encode_tensor, tensors, [profile] * len(tensors)))
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


def encode_tensor(tensor: TensorInput, profile: str) -> CodedTensor:
    """Codes every part with the codecs that a profile allows.

    Args:
        tensor: A `TensorInput`.
        profile: String, one of `codecs.PROFILES`.

    Returns:
        `CodedTensor`.
    """
    fast: list[tuple[Codec, bytes]] = []
    small: list[tuple[Codec, bytes]] = []
    for role in roles_of(tensor.encoding, tensor.parameters):
        array = np.asarray(tensor.arrays[role])
        trellis = tensor.trellis if role == "codes" else None
        fast.append(_encode_fast(array, trellis))
        small.append(_encode_small(array, profile, trellis, fast[-1]))
    coded = _coded(tensor, fast)
    if all(pair is other for pair, other in zip(fast, small, strict=True)):
        return CodedTensor(coded)
    return CodedTensor(coded, _coded(tensor, small))


def _encode_fast(
    array: np.ndarray, trellis: Trellis | None
) -> tuple[Codec, bytes]:
    candidates = profiles.fast_codecs(array, trellis)
    return codecs.encode_smallest(array, candidates)


def _encode_small(
    array: np.ndarray,
    profile: str,
    trellis: Trellis | None,
    fast: tuple[Codec, bytes],
) -> tuple[Codec, bytes]:
    codec = profiles.small_codec(array, profile, trellis)
    if codec is None or codec.size_hint(array) >= len(fast[1]):
        return fast
    data = codec.encode(array)
    return (codec, data) if len(data) < len(fast[1]) else fast


def _coded(tensor: TensorInput, parts: Sequence[tuple[Codec, bytes]]) -> Coded:
    roles = roles_of(tensor.encoding, tensor.parameters)
    payload = b"".join(data for _, data in parts)
    record = TensorRecord(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tuple(tensor.shape),
        parts=tuple(
            _part(role, np.asarray(tensor.arrays[role]), *pair)
            for role, pair in zip(roles, parts, strict=True)
        ),
        crc32=zlib.crc32(payload),
        encoding=tensor.encoding,
        parameters=dict(tensor.parameters),
        nonzero=_count_nonzero(tensor, roles[0]),
    )
    return record, payload


def _count_nonzero(tensor: TensorInput, role: str) -> int:
    if tensor.encoding in LATER_ENCODINGS:
        # A code of 0 need not stand for zero there.
        return int(np.count_nonzero(tensor.decode()))
    return int(np.count_nonzero(np.asarray(tensor.arrays[role])))


def _part(role: str, array: np.ndarray, codec: Codec, data: bytes) -> Part:
    config: dict[str, Any] = codec.get_config()
    return Part(role, array.dtype.name, array.shape, config, len(data))
