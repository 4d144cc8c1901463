"""How much a reader believes: bounds checked before anything is allocated."""

from __future__ import annotations

import dataclasses

from keras_squeeze.errors import LimitExceededError

_GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on what a file may declare.

    Args:
        max_manifest_bytes: Integer. Largest manifest, decoded, in bytes.
        max_tensors: Integer. Most tensors in one file.
        max_name_bytes: Integer. Longest tensor name in UTF-8 bytes.
        max_rank: Integer. Most dimensions of a tensor.
        max_depth: Integer. Deepest nesting of the manifest's JSON.
        max_decoded_bytes: Optional integer. Most bytes that decoding may
            produce in all. Defaults to `None`, a thousand times the file's
            size, at least 1 GiB, at most 16 GiB.
        max_signed_bytes: Integer. Largest file that is read whole, because a
            signature or an expected digest is to be checked first.
    """

    max_manifest_bytes: int = 16 << 20
    max_tensors: int = 1_000_000
    max_name_bytes: int = 1024
    max_rank: int = 32
    max_depth: int = 128
    max_decoded_bytes: int | None = None
    max_signed_bytes: int = 16 * _GIB

    def decoded_bytes(self, stream_bytes: int) -> int:
        """The bound on decoded bytes for a stream of that size."""
        if self.max_decoded_bytes is not None:
            return self.max_decoded_bytes
        return min(16 * _GIB, max(_GIB, 1000 * stream_bytes))


def check_limit(what: str, value: int, limit: int) -> None:
    """Raises `LimitExceededError` if a declared value is over its limit."""
    if value > limit:
        raise LimitExceededError(
            f"Expected {what} of at most {limit:,}; raise the limit with "
            f"`artifact.Limits` if you trust the file. Received: {value:,}"
        )
