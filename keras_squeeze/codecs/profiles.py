"""Which codecs a file may use: what its reader pays, and for how many bytes.

`fast` holds what NumPy alone decodes at memory-like speed. `small` adds
context mixing, which decodes a few million weights a second and needs the
compiled kernels for that. `auto` takes context mixing where it saves more
than one percent of a tensor, the best savings first, as long as the whole
file decodes within about two seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_squeeze.codecs.bitpack import Bitpack
from keras_squeeze.codecs.byte_planes import BytePlanes
from keras_squeeze.codecs.class_rans import ClassRans
from keras_squeeze.codecs.codec import Codec
from keras_squeeze.codecs.constant import Constant
from keras_squeeze.codecs.context_mixing import ContextMixing
from keras_squeeze.codecs.deflate import Deflate
from keras_squeeze.codecs.float_fields import FloatFields
from keras_squeeze.codecs.sparse import Sparse
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import SqueezeError

#: What `profile` may be.
PROFILES = ("auto", "fast", "small")

#: Weights that `auto` lets context mixing code in one file: at the 2 to 3
#: million a second of one core, less than two seconds. A count, not a time, so
#: that equal models give equal files on every machine.
AUTO_WEIGHTS = 4_000_000

#: What context mixing must save, as a part of the tensor, to be worth it.
AUTO_SAVING = 0.01

_LARGE_BYTES = 1 << 16


def check_profile(profile: str) -> None:
    """Raises `SqueezeError` unless the profile is one of `PROFILES`."""
    if profile not in PROFILES:
        raise SqueezeError(
            f"Expected `profile` to be one of {PROFILES}. "
            f"Received: profile={profile!r}"
        )


def fast_codecs(
    array: np.ndarray, trellis: Trellis | None = None
) -> list[Codec]:
    """The candidates of the profile `fast` beside `raw`, the cheapest first.

    Args:
        array: The array to encode.
        trellis: Optional `Trellis` that the array's codes follow.

    Returns:
        List of codecs; not all need support the array.
    """
    found: list[Codec] = [
        Constant(),
        Bitpack(),
        Sparse(),
        ClassRans(trellis=trellis),
        FloatFields(),
    ]
    # Short headers win on small arrays; on large ones fields do better.
    if array.dtype.kind not in "fcV" or array.nbytes <= _LARGE_BYTES:
        found += [BytePlanes(), Deflate()]
    return found


def small_codec(
    array: np.ndarray, profile: str, trellis: Trellis | None = None
) -> Codec | None:
    """The codec that a profile may put in the place of the fast ones.

    Args:
        array: The array to encode.
        profile: String, one of `PROFILES`.
        trellis: Optional `Trellis` that the array's codes follow.

    Returns:
        The codec, or `None` where the profile has none for this array:
        `"auto"` asks for the compiled kernels, without which encoding and
        decoding take a hundred times longer.
    """
    codec = ContextMixing(trellis=trellis)
    if profile == "fast" or not codec.supports(array):
        return None
    if profile == "auto" and not codec.is_fast:
        return None
    return codec


def choose_small(
    fast_bytes: Sequence[int],
    small_bytes: Sequence[int | None],
    weights: Sequence[int],
    profile: str = "auto",
) -> list[bool]:
    """Which tensors of a file take the encoding of the small codec.

    Args:
        fast_bytes: Sequence of integers, each tensor's bytes in fast codecs.
        small_bytes: Sequence of integers, in the small one; `None` where it
            was not tried.
        weights: Sequence of integers, each tensor's number of weights.
        profile: String. `"small"` takes all that are smaller, `"auto"` those
            worth their time. Defaults to `"auto"`.

    Returns:
        List of booleans.

    Example:
    >>> choose_small([1000, 1000], [900, 999], [5000, 5000])
    [True, False]
    """
    saved = [
        0 if small is None else fast - small
        for fast, small in zip(fast_bytes, small_bytes, strict=True)
    ]
    if profile == "small":
        return [saving > 0 for saving in saved]
    taken = [False] * len(saved)
    room = AUTO_WEIGHTS
    by_worth = sorted(
        range(len(saved)), key=lambda i: -saved[i] / max(weights[i], 1)
    )
    for i in by_worth:
        if saved[i] > AUTO_SAVING * fast_bytes[i] and weights[i] <= room:
            taken[i] = True
            room -= weights[i]
    return taken
