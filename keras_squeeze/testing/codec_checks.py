"""What every codec must do, as one callable check."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_squeeze.codecs import Codec, dtypes
from keras_squeeze.errors import SqueezeError

_MAX_CUTS = 12


def sample_arrays() -> list[np.ndarray]:
    """Arrays that break careless codecs.

    Returns:
        Arrays of every dtype an artifact may hold: without elements, without
        dimensions, constant, sparse, strided, Fortran-ordered, big-endian and
        read-only ones, with NaN payloads, negative zeros, denormals and the
        extremes of their dtype.

    Example:
    >>> from keras_squeeze.testing import sample_arrays
    >>> len({array.dtype.name for array in sample_arrays()})
    17
    """
    random = np.random.default_rng(0)
    arrays = []
    for name in dtypes.DTYPE_NAMES:
        dtype = dtypes.dtype_from_name(name)
        arrays += [_random_array(random, dtype, 150).reshape(5, 30)]
        arrays += _odd_arrays(arrays[-1])
    return arrays


def check_codec(
    codec: Codec, arrays: Iterable[np.ndarray] | None = None
) -> None:
    """Checks that a codec keeps the contract of `codecs.Codec`.

    Bits come back as they went in, as a new C-contiguous, writable, native
    array; the config describes the codec and survives JSON; damaged bytes
    raise `SqueezeError` and nothing else.

    Args:
        codec: The `Codec` to check.
        arrays: Optional iterable of arrays to try. Defaults to
            `sample_arrays()`; those that the codec does not support are left
            out.

    Raises:
        AssertionError: If the codec breaks the contract.

    Example:
    >>> from keras_squeeze import codecs, testing
    >>> testing.check_codec(codecs.Raw())
    """
    chosen = sample_arrays() if arrays is None else list(arrays)
    _check_config(codec)
    supported = [array for array in chosen if codec.supports(array)]
    _require(bool(supported), f"{codec!r} supports none of the arrays")
    for array in supported:
        _check_round_trip(codec, array)
        _check_damage(codec, array)
    _check_many(codec, supported)


def _check_config(codec: Codec) -> None:
    config = codec.get_config()
    _require(config.get("id") == codec.id, f"the config names no id: {config}")
    _require(
        codec.id == codec.id.lower() and codec.id.isidentifier(),
        f"the id is not snake_case: {codec.id!r}",
    )
    again = json.loads(json.dumps(config))
    _require(again == config, f"the config does not survive JSON: {config}")
    arguments = {key: value for key, value in again.items() if key != "id"}
    copy = type(codec)(**arguments)
    _require(copy == codec, f"the config makes another codec: {copy!r}")
    _require(hash(copy) == hash(codec), "equal codecs have different hashes")
    _require(
        type(codec).__name__ in repr(codec), f"repr is {codec!r}, not the class"
    )


def _check_round_trip(codec: Codec, array: np.ndarray) -> None:
    what = f"{codec!r}, {array.dtype} of shape {array.shape}"
    before = array.copy()
    data = codec.encode(array)
    _require(type(data) is bytes, f"{what}: encode gave {type(data)}")
    _require(_same_bits(before, array), f"{what}: encode changed its input")
    _require(codec.encode(array) == data, f"{what}: encode is not repeatable")
    native = array.dtype.newbyteorder("=")
    for form in (data, bytearray(data), memoryview(data)):
        _check_decoded(codec.decode(form, array.shape, native), array, what)


def _check_decoded(out: np.ndarray, array: np.ndarray, what: str) -> None:
    _require(out.shape == array.shape, f"{what}: came back as {out.shape}")
    _require(_same_bits(out, array), f"{what}: came back with other values")
    flags = out.flags
    _require(
        flags.c_contiguous and flags.writeable and out.dtype.isnative,
        f"{what}: expected a C-contiguous, writable, native array",
    )


def _check_many(codec: Codec, arrays: list[np.ndarray]) -> None:
    items = [
        (codec.encode(a), a.shape, a.dtype.newbyteorder("=")) for a in arrays
    ]
    decoded = codec.decode_many(items)
    _require(len(decoded) == len(arrays), "decode_many lost arrays")
    for out, array in zip(decoded, arrays, strict=True):
        _check_decoded(out, array, f"{codec!r}, decode_many")


def _check_damage(codec: Codec, array: np.ndarray) -> None:
    data = codec.encode(array)
    places = np.linspace(0, max(len(data) - 1, 0), _MAX_CUTS).astype(int)
    for place in sorted(set(places.tolist())):
        _decode_damaged(codec, data[:place], array)
        flipped = bytearray(data or b"\0")
        flipped[place] ^= 1 << place % 8
        _decode_damaged(codec, bytes(flipped), array)
    _decode_damaged(codec, data + b"\0", array, must_fail=True)


def _decode_damaged(
    codec: Codec, data: bytes, array: np.ndarray, must_fail: bool = False
) -> None:
    what = f"{codec!r}, {array.dtype} of shape {array.shape}, damaged"
    try:
        out = codec.decode(data, array.shape, array.dtype.newbyteorder("="))
    except SqueezeError:
        return
    except Exception as error:
        raise AssertionError(
            f"{what}: expected a SqueezeError. Received: {error!r}"
        ) from error
    _require(not must_fail, f"{what}: trailing bytes were accepted")
    _require(out.shape == array.shape, f"{what}: came back as {out.shape}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    same_kind = a.dtype.name == b.dtype.name and a.shape == b.shape
    return same_kind and bool(
        (dtypes.bit_patterns(a) == dtypes.bit_patterns(b)).all()
    )


def _random_array(
    random: np.random.Generator, dtype: np.dtype[Any], count: int
) -> np.ndarray:
    if dtype.kind == "b":
        return random.integers(0, 2, count).astype(dtype)
    # Random bits: every NaN payload, denormal and extreme value turns up.
    bits = random.bytes(count * dtype.itemsize)
    return np.frombuffer(bits, dtype).copy()


def _odd_arrays(array: np.ndarray) -> list[np.ndarray]:
    dtype, zeros = array.dtype, np.zeros_like(array)
    small = (array.view(np.uint8) & 3).view(dtype)
    small = small if dtype.kind != "b" else array
    mostly_zero = np.where(np.arange(30) % 9 == 4, array, zeros)
    frozen = array[:2].copy()
    frozen.flags.writeable = False
    return [
        *(zeros, zeros[0, 0], zeros[:0], np.empty((3, 0, 2), dtype)),
        *(array[0, 0], array[:1, :1], mostly_zero, small, frozen),
        *(array[::2, ::-3], np.asfortranarray(array), array.T),
        *(np.repeat(array[:1, :1], 7), array.astype(dtype.newbyteorder(">"))),
        np.array([0, 1], dtype)[np.arange(40) % 2],
    ]
