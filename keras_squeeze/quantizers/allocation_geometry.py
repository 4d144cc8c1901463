"""The order of scanning a kernel that costs its coder the fewest bytes.

Whether the outputs or the inputs of a kernel play the channels decides what
the adaptive coder can foresee. Nothing tells it but coding: each kernel is
rounded once and coded both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.codecs.context_mixing import ContextMixing
from keras_squeeze.quantizers.allocation_measure import energy
from keras_squeeze.quantizers.rate_distortion_geometry import coding_geometry

_EXCHANGED = {
    "matrix": "matrix_transposed",
    "matrix_transposed": "matrix",
    "convolution": "convolution_transposed",
    "convolution_transposed": "convolution",
}

# The step of the trial in root mean squares: about 18 decibels.
_STEP = 0.4
_LARGEST_CODE = 32767
# Less is chance.
_WORTH = 0.999
_SMALLEST = 256


def cheaper_kinds(
    tensors: Mapping[str, NDArray[np.float32]],
    kinds: Mapping[str, str],
    executor: Executor | None = None,
) -> dict[str, str]:
    """Chooses for each tensor between a kind and the exchanged one.

    Args:
        tensors: Mapping from names to float32 arrays.
        kinds: Mapping from names to kinds of `codecs.kernel_geometry`, for
            some of them.
        executor: Optional `concurrent.futures.Executor` with threads.

    Returns:
        Dictionary from the names of all tensors to kinds; those that were
        given or are likeliest where there are no compiled kernels.

    Raises:
        SqueezeError: If a kind does not fit its tensor.

    Example:
    >>> low_rank = np.outer(np.arange(40.0), np.ones(8)).astype("float32")
    >>> sorted(cheaper_kinds({"kernel": low_rank}, {}))
    ['kernel']
    """

    def choose(name: str) -> str:
        values = tensors[name]
        kind = coding_geometry(values, kinds.get(name), "small", name).kind
        return _cheaper(values, kind)

    run = map if executor is None else executor.map
    names = list(tensors)
    return dict(zip(names, run(choose, names), strict=True))


def _cheaper(values: NDArray[np.float32], kind: str) -> str:
    other = _EXCHANGED.get(kind)
    pair = 3 if kind.startswith("conv") else 2
    if (
        other is None
        or values.ndim < pair
        or values.size < _SMALLEST
        or not values.any()
        or not ContextMixing().is_fast
    ):
        return kind
    step = _STEP * np.sqrt(energy(values) / values.size)
    codes = np.rint(values / np.float32(step))
    codes = codes.clip(-_LARGEST_CODE, _LARGEST_CODE).astype(np.int16)
    size, other_size = (
        len(ContextMixing(kinds=(one,)).encode(codes)) for one in (kind, other)
    )
    return other if other_size < _WORTH * size else kind
