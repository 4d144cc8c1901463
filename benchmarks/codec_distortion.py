"""Rate at equal weight SNR: our quantizers and coders against NNCodec's best.

The distortion is the mean over all weights of the squared error relative to
the mean square of the weight's tensor; NNCodec's steps are proportional to the
root mean square of each tensor as ours are, its trellis is on and off, its
rate weight takes several values, and its best counts at each SNR.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from codec_peers import run_peer

from keras_squeeze import codecs, quantizers

#: Label, codec, states of the trellis (`None`: scalar).
METHODS = (
    ("class_rans, scalar", "class_rans", None),
    ("class_rans, 8 states", "class_rans", 8),
    ("context_mixing, scalar", "context_mixing", None),
    ("context_mixing, 8 states", "context_mixing", 8),
    ("context_mixing, 128 states", "context_mixing", 128),
)
_TARGETS = {"class_rans": "fast", "context_mixing": "small"}


@dataclasses.dataclass(frozen=True)
class Rate:
    """Bits a weight of one method at one SNR, and NNCodec's best there.

    `peer_bits` are those of the best order of each tensor's axes,
    `peer_own_bits` those of the order that NNCodec would take.
    """

    model: str
    method: str
    snr_db: float
    bits: float
    peer_bits: float | None
    peer_own_bits: float | None

    @property
    def excess(self) -> float:
        """Percent of bits more than NNCodec's best; NaN without a peer."""
        return 100 * (self.bits / (self.peer_bits or np.nan) - 1)

    @property
    def excess_own(self) -> float:
        """The same against NNCodec's best in its own order."""
        return 100 * (self.bits / (self.peer_own_bits or np.nan) - 1)


def measure(
    models: dict[str, dict[str, np.ndarray]],
    levels_db: list[float],
    peer_python: str | None,
    methods: tuple[tuple[str, str, int | None], ...] = METHODS,
) -> list[Rate]:
    """Quantizes and codes all kernels of all models at all levels."""
    found = []
    for model, kernels in models.items():
        kernels = {n: w for n, w in kernels.items() if w.any()}
        peer = (
            run_peer(peer_python, "distortion", kernels)
            if peer_python
            else None
        )
        for method, codec, states in methods:
            for level in levels_db:
                bits, reached = rate_at(kernels, codec, states, level)
                peers = [
                    best_rate(peer, reached, free) if peer else None
                    for free in (True, False)
                ]
                found.append(Rate(model, method, reached, bits, *peers))
    return found


def rate_at(
    kernels: dict[str, np.ndarray],
    codec: str,
    states: int | None,
    level_db: float,
) -> tuple[float, float]:
    """Bits a weight and the SNR that was reached."""
    allocation = quantizers.allocate(
        kernels,
        snr_db=level_db,
        states=states,
        target=_TARGETS[codec],
    )
    coded_bytes, noise, total = 0, 0.0, 0
    for name, weights in kernels.items():
        tensor = allocation.tensors[name]
        coded_bytes += len(encode(codec, tensor))
        error = np.square(tensor.dequantize() - weights, dtype=np.float64)
        noise += error.sum() / np.square(weights, dtype=np.float64).mean()
        total += weights.size
    return 8 * coded_bytes / total, -10 * float(np.log10(noise / total))


def encode(name: str, tensor: quantizers.QuantizedTensor) -> bytes:
    """The codes, coded along the trellis; the round trip is checked."""
    chosen = type(codecs.get(name))
    coder = chosen(trellis=tensor.trellis)  # type: ignore[call-arg]
    data = coder.encode(tensor.codes)
    back = codecs.get(name).decode(data, tensor.codes.shape, tensor.codes.dtype)
    np.testing.assert_array_equal(back, tensor.codes)
    return data


def best_rate(points: list[dict], snr_db: float, free: bool) -> float:
    """NNCodec's fewest bits a weight at an SNR, over its settings."""
    settings: dict[tuple[int, float], list[dict]] = {}
    for point in points:
        if point["free"] != free:
            continue
        key = point["trellis"], point["lambda"]
        settings.setdefault(key, []).append(point)
    return min(_interpolate(curve, snr_db) for curve in settings.values())


def _interpolate(curve: list[dict], snr_db: float) -> float:
    """The parabola through the three nearest points; no extrapolation."""
    snr = np.array([point["snr_db"] for point in curve])
    bits = np.array([point["bits_per_weight"] for point in curve])
    if not snr.min() <= snr_db <= snr.max():
        return np.inf
    near = np.argsort(np.abs(snr - snr_db))[:3]
    return float(np.polyval(np.polyfit(snr[near], bits[near], 2), snr_db))


def print_table(found: list[Rate]) -> None:
    """Bits a weight, and percents against NNCodec's best."""
    models = list(dict.fromkeys(rate.model for rate in found))
    rows: dict[tuple[str, float], dict[str, Rate]] = {}
    for rate in found:
        key = rate.method, round(rate.snr_db)
        rows.setdefault(key, {})[rate.model] = rate
    print(f"| method | dB |{'|'.join(models)}| mean |")
    print("|---|---|" + "---|" * (len(models) + 1))
    for (method, level), rates in rows.items():
        cells = "|".join(_cell(rates[model]) for model in models)
        compared = [r.excess for r in rates.values() if r.peer_bits]
        own = [r.excess_own for r in rates.values() if r.peer_bits]
        mean = ""
        if compared:
            mean = f"{np.mean(compared):+.1f} ({np.mean(own):+.1f}) %"
        print(f"| {method} | {level} |{cells}| {mean} |")


def _cell(rate: Rate) -> str:
    excess = ""
    if rate.peer_bits:
        excess = f" {rate.excess:+.1f} ({rate.excess_own:+.1f})"
    return f"{rate.bits:.3f}{excess}"
