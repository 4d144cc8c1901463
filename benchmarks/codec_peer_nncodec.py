"""NNCodec in the coder's benchmarks; runs in the peers' environment.

NNCodec is driven through its compiled coder, without the headers its files
have, so a little in its favour: parameter optimization on, profile 1, rows
without weights skipped. Each tensor takes the smallest of four views (channels
or inputs as rows, taps after or before the rest), which NNCodec itself would
not try, and each set the better of two lengths of the unary part.
`bytes_one_view` is PyTorch's layout with NNCodec's default length.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import numpy as np

_UNARY = (6, 11)
_DEFAULT_UNARY = 11
_ENOUGH_SECONDS = 0.3
_LAMBDAS = (0.0, 0.5, 1.0, 2.0)
_DENSITY = 6
_USUAL_STEP = 0.26
# Steps in standard deviations that give 8 to 29 dB, without and with the
# trellis of NNCodec, whose step is that of both grids together.
_STEPS = {0: np.geomspace(1.9, 0.13, 10), 1: np.geomspace(1.15, 0.08, 10)}


class NNCodec:
    """NNCodec's coder with one choice of parameters."""

    def __init__(self, unary: int, trellis: int = 0) -> None:
        from nncodec.extensions import deepCABAC

        self.coder = deepCABAC
        self.unary, self.trellis = unary, trellis
        self.no_history = deepCABAC.HdspMode.AlwaysOff, np.zeros(2, np.int8)

    def encode(self, codes: np.ndarray) -> np.ndarray:
        """The bytes of a matrix of codes."""
        empty = (~codes.any(axis=1)).astype(np.int32)
        encoder = self.coder.Encoder()
        encoder.initCtxModels(self.unary, 1)
        encoder.encodeLayer(
            *(codes, self.trellis, 0, 1, 0, int(empty.any()), empty),
            *(*self.no_history, 0, 0),
        )
        return encoder.finish()

    def decode(self, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Undoes `encode`."""
        decoder = self.coder.Decoder()
        decoder.setStream(data)
        decoder.initCtxModels(self.unary)
        codes = np.zeros(shape, np.int32)
        decoder.decodeLayer(
            codes, self.trellis, 0, 1, 0, *self.no_history, 0, 0
        )
        return codes

    def quantize(
        self, weights: np.ndarray, step: float, rate_weight: float
    ) -> tuple[np.ndarray, float]:
        """The codes, and the step NNCodec can express nearest to `step`."""
        fraction, exponent = math.frexp(step)
        steps = 1 << _DENSITY
        mantissa = round((2 * fraction - 1) * steps)
        index = (exponent - 1) * steps + mantissa
        step = (steps + index % steps) * 2.0 ** (index // steps - _DENSITY)
        codes = np.zeros(weights.shape, np.int32)
        encoder = self.coder.Encoder()
        encoder.initCtxModels(self.unary, 0)
        encoder.quantLayer(
            *(weights, codes, self.trellis, _DENSITY, index),
            *(rate_weight, self.unary, 0, 1),
        )
        return codes, step


def views(array: np.ndarray) -> list[np.ndarray]:
    """The matrices NNCodec may be given.

    Channels or inputs are the rows, taps come after or before the rest.
    """
    rows = (array, array.swapaxes(1, 2), array.swapaxes(0, 1))
    rows = (*rows, array.transpose(1, 2, 0))
    return [np.ascontiguousarray(a.reshape(len(a), -1)) for a in rows]


def nncodec_sizes(arrays: list[np.ndarray]) -> dict:
    """Bytes a tensor, and the speed of what makes them."""
    sizes = np.array(
        [
            [
                [NNCodec(unary).encode(view).size for view in views(array)]
                for array in arrays
            ]
            for unary in _UNARY
        ]
    )
    unary = int(sizes.min(axis=2).sum(axis=1).argmin())
    codec = NNCodec(_UNARY[unary])
    best = sizes[unary].argmin(axis=1)
    codes = [views(a)[view] for a, view in zip(arrays, best, strict=True)]
    encode, coded = cpu_seconds(lambda: [codec.encode(c) for c in codes])
    decode, back = cpu_seconds(
        lambda: [
            codec.decode(data, c.shape)
            for data, c in zip(coded, codes, strict=True)
        ]
    )
    for array, again in zip(codes, back, strict=True):
        np.testing.assert_array_equal(array, again)
    return {
        "bytes": [data.size for data in coded],
        "bytes_one_view": sizes[-1, :, 0].tolist(),
        "views": best.tolist(),
        "unary": _UNARY[unary],
        "encode_cpu_seconds": encode,
        "decode_cpu_seconds": decode,
    }


def cpu_seconds(work: Callable[[], list]) -> tuple[float, list]:
    """The least CPU time of some work, and its result."""
    times: list[float] = []
    while sum(times) < _ENOUGH_SECONDS and len(times) < 7:
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def speed(arrays: dict[str, np.ndarray]) -> dict:
    """CPU seconds of NNCodec with its defaults, in one view."""
    codec = NNCodec(_DEFAULT_UNARY)
    codes = [views(a.astype(np.int32))[0] for a in arrays.values()]
    encode, coded = cpu_seconds(lambda: [codec.encode(c) for c in codes])
    decode, _ = cpu_seconds(
        lambda: [
            codec.decode(data, c.shape)
            for data, c in zip(coded, codes, strict=True)
        ]
    )
    return {"encode_cpu_seconds": encode, "decode_cpu_seconds": decode}


def best_view(array: np.ndarray) -> np.ndarray:
    """The view NNCodec makes smallest, near 18 dB with its defaults."""
    codec = NNCodec(_DEFAULT_UNARY, 1)

    def size(view: np.ndarray) -> int:
        step = _USUAL_STEP * float(np.sqrt(np.square(view).mean()))
        return codec.encode(codec.quantize(view, step, 0.5)[0]).size

    return min(views(array), key=size)


def distortion(arrays: dict[str, np.ndarray]) -> list[dict]:
    """Rate and distortion of NNCodec's quantizers over their parameters.

    Points with `free` are those of the best view of each tensor, the others
    those of PyTorch's layout, which NNCodec would take.
    """
    found = []
    kernels = [a for a in arrays.values() if a.any()]
    for free in (True, False):
        weights = [best_view(a) if free else views(a)[0] for a in kernels]
        found += [
            {"free": free, "trellis": trellis, "lambda": rate_weight}
            | distortion_at(weights, trellis, rate_weight, float(alpha))
            for trellis, rate_weight in itertools.product((0, 1), _LAMBDAS)
            for alpha in _STEPS[trellis]
        ]
    return found


def distortion_at(
    weights: list[np.ndarray], trellis: int, rate_weight: float, alpha: float
) -> dict:
    """One point: steps of `alpha` standard deviations of each tensor."""
    codec = NNCodec(_DEFAULT_UNARY, trellis)
    total = sum(array.size for array in weights)
    coded_bytes, noise = 0, 0.0
    for array in weights:
        step = alpha * float(np.sqrt(np.square(array).mean()))
        codes, step = codec.quantize(array, step, rate_weight)
        coded_bytes += codec.encode(codes).size
        error = np.square(codes * step - array, dtype=np.float64)
        noise += error.sum() / float(np.square(array).mean()) / total
    return {
        "bits_per_weight": 8 * coded_bytes / total,
        "snr_db": -10 * math.log10(noise),
    }
