"""Ways to code a list of arrays, measured, every round trip checked."""

from __future__ import annotations

import dataclasses
import gzip
import lzma
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from keras_squeeze import codecs
from keras_squeeze.codecs.byte_codec import ByteCodec
from keras_squeeze.codecs.codec import Codec
from keras_squeeze.errors import CorruptArtifactError

T = TypeVar("T")
Coded = list[tuple[Any, bytes]]
MEGABYTE = 1e6
_ENOUGH_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Trial:
    """One way to code a list of arrays.

    Args:
        name: String. What the way is called.
        arrays: Sequence of arrays to code, one call of `encode` each.
        encode: Callable from an array to a pair of anything and bytes.
        decode: Callable from all these pairs and the arrays, of which it may
            use shape and dtype only, to the list of arrays.
        tensors: Integer. How many tensors the codec itself takes; the others
            are stored raw.
    """

    name: str
    arrays: Sequence[np.ndarray]
    encode: Callable[[np.ndarray], tuple[Any, bytes]]
    decode: Callable[[Coded, Sequence[np.ndarray]], list[np.ndarray]]
    tensors: int

    def measure(self, repeats: int = 5) -> dict[str, Any]:
        """Codes and decodes all arrays.

        Args:
            repeats: Integer. How often at most; the fastest run counts.
                Defaults to 5.

        Returns:
            Dictionary with `codec`, `tensors`, `bytes`, `encode_mb_s` and
            `decode_mb_s` (10^6 bytes of the arrays a second).

        Raises:
            CorruptArtifactError: If an array does not come back bit for bit.
        """
        coded, encode_seconds = _fastest(self._encode_all, repeats)
        decoded, decode_seconds = _fastest(
            lambda: self.decode(coded, self.arrays), repeats
        )
        for array, back in zip(self.arrays, decoded, strict=True):
            if not _equal_bits(array, back):
                raise CorruptArtifactError(
                    f"Expected the codec {self.name!r} to give back what it "
                    f"coded. Received: other values for an array of shape "
                    f"{array.shape} and dtype {array.dtype}"
                )
        megabytes = sum(array.nbytes for array in self.arrays) / MEGABYTE
        return {
            "codec": self.name,
            "tensors": self.tensors,
            "bytes": sum(len(data) for _, data in coded),
            "encode_mb_s": round(megabytes / encode_seconds, 3),
            "decode_mb_s": round(megabytes / decode_seconds, 3),
        }

    def _encode_all(self) -> Coded:
        return [self.encode(array) for array in self.arrays]


def codec_trial(codec: Codec, arrays: Sequence[np.ndarray]) -> Trial:
    """A codec on the arrays it supports, `raw` on the others."""
    supported = sum(bool(codec.supports(array)) for array in arrays)
    return Trial(_name(codec), arrays, _encoder(codec), _decode, supported)


def smallest_trial(arrays: Sequence[np.ndarray]) -> Trial:
    """The codec that makes each array smallest, as an artifact does."""
    encode = codecs.encode_smallest
    return Trial("smallest", arrays, encode, _decode, len(arrays))


def joined_trials(arrays: Sequence[np.ndarray]) -> Iterator[Trial]:
    """What is done to whole files: `gzip` and `lzma` over all bytes joined."""
    joined = [np.frombuffer(b"".join(a.tobytes() for a in arrays), np.uint8)]
    yield Trial("gzip -9", joined, _gzip, _expand, len(arrays))
    yield Trial("lzma -9", joined, _lzma, _expand, len(arrays))


def missing_library(codec: Codec) -> str | None:
    """The library that the codec needs and that is not installed."""
    if isinstance(codec, ByteCodec) and not codec.is_available():
        return codec.library
    return None


def _name(codec: Codec) -> str:
    config: Mapping[str, Any] = codec.get_config()
    default = codecs.get(codec.id) if codec.id in codecs.names() else codec
    if codec == default:
        return codec.id
    inside = ", ".join(f"{k}={v}" for k, v in config.items() if k != "id")
    return f"{codec.id} {inside}"


def _encoder(
    codec: Codec,
) -> Callable[[np.ndarray], tuple[Codec, bytes]]:
    raw = codecs.get("raw")

    def encode(array: np.ndarray) -> tuple[Codec, bytes]:
        chosen = codec if codec.supports(array) else raw
        return chosen, chosen.encode(array)

    return encode


def _decode(coded: Coded, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    # All at once, as a file is read.
    pairs = zip(coded, arrays, strict=True)
    return codecs.decode_all(
        [(how, (data, a.shape, a.dtype)) for (how, data), a in pairs]
    )


def _gzip(array: np.ndarray) -> tuple[Any, bytes]:
    return gzip.decompress, gzip.compress(array.tobytes(), 9, mtime=0)


def _lzma(array: np.ndarray) -> tuple[Any, bytes]:
    return lzma.decompress, lzma.compress(array.tobytes(), preset=9)


def _expand(coded: Coded, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [
        np.frombuffer(decompress(data), like.dtype).reshape(like.shape)
        for (decompress, data), like in zip(coded, arrays, strict=True)
    ]


def _fastest(work: Callable[[], T], repeats: int) -> tuple[T, float]:
    """The result of some work and the least of its wall times in seconds."""
    times: list[float] = []
    while True:
        start = time.perf_counter()
        result = work()
        times.append(max(time.perf_counter() - start, 1e-9))
        if sum(times) > _ENOUGH_SECONDS or len(times) >= repeats:
            return result, min(times)


def _equal_bits(first: np.ndarray, second: np.ndarray) -> bool:
    same = first.shape == second.shape and first.dtype == second.dtype
    return same and first.tobytes() == second.tobytes()
