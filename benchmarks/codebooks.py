"""Learned codebooks: k-means against scikit-learn's, and bits at equal SNR.

    python benchmarks/codebooks.py [MODEL.h5]

The first table takes 100,000 weights (normal, Laplacian, and Laplacian with
half of them pruned) and 16 levels: CPU seconds, and the squared error relative
to that of scikit-learn's best of ten starts. The second takes the kernels of a
Keras model: the signal-to-noise ratio and the coded bits a weight, scales and
codebooks included, and for the quantizers with a knob the bits at the ratio of
the uniform grid of four bits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import h5py
import numpy as np

from keras_squeeze.artifact import TensorInput
from keras_squeeze.artifact.tensor_encoding import encode_tensors
from keras_squeeze.quantizers import (
    EntropyConstrainedQuantizer,
    KMeansQuantizer,
    MeanSquaredErrorQuantizer,
    Quantizer,
    RateDistortionQuantizer,
)

LEVELS = 16
WEIGHTS = 100_000
LEAST_KERNEL = 64
KNOBS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)


def timed(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """CPU seconds of all threads, and the result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def one_dimensional_samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    laplacian = rng.laplace(size=WEIGHTS).astype("float32")
    pruned = np.where(np.abs(laplacian) < np.log(2), 0, laplacian)
    return {
        "normal": rng.normal(size=WEIGHTS).astype("float32"),
        "Laplacian": laplacian,
        "half pruned": pruned.astype("float32"),
    }


def scikit_learn(values: np.ndarray, starts: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    means = KMeans(LEVELS, n_init=starts, random_state=0)
    labels = means.fit_predict(values[:, None])
    centres: np.ndarray = means.cluster_centers_[labels, 0]
    return centres


def compare_with_scikit_learn() -> None:
    quantizer = KMeansQuantizer(4, "per_tensor")
    print(f"{'weights':<12} {'method':<26} {'CPU s':>7} {'error':>9}")
    for name, values in one_dimensional_samples().items():
        rows = {
            "scikit-learn, 10 starts": timed(
                lambda v=values: scikit_learn(v, 10)
            ),
            "scikit-learn, 1 start": timed(lambda v=values: scikit_learn(v, 1)),
            "ours": timed(lambda v=values: quantizer.encode(v).dequantize()),
        }
        errors = {
            method: float(np.sum((found.astype(float) - values) ** 2))
            for method, (_, found) in rows.items()
        }
        best = errors["scikit-learn, 10 starts"]
        for method, (seconds, _) in rows.items():
            ratio = errors[method] / best
            print(f"{name:<12} {method:<26} {seconds:7.2f} {ratio:9.5f}")


def kernels_of(path: str) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: object) -> None:
        kernel = isinstance(item, h5py.Dataset) and "kernel" in name
        if kernel and item.size >= LEAST_KERNEL:
            found[name] = np.asarray(item, np.float32)

    with h5py.File(path) as file:
        file["model_weights"].visititems(visit)
    return found


def rate(
    kernels: Mapping[str, np.ndarray], quantizer: Quantizer, profile: str
) -> tuple[float, float]:
    """Signal-to-noise ratio in decibels, and coded bits a weight."""
    inputs, noise, count = [], 0.0, 0
    for name, kernel in kernels.items():
        tensor = quantizer.encode(kernel, axis=kernel.ndim - 1)
        error = np.sum((tensor.dequantize() - kernel) ** 2, dtype=float)
        noise += kernel.size * error / np.sum(kernel**2, dtype=float)
        count += kernel.size
        inputs.append(TensorInput.from_quantized(name, "float32", tensor))
    coded = sum(len(data) for _, data in encode_tensors(inputs, profile))
    return -10 * np.log10(noise / count), 8 * coded / count


def quantizers() -> dict[str, list[Quantizer]]:
    return {
        "uniform, per channel": [
            MeanSquaredErrorQuantizer(bits) for bits in (3, 4, 5)
        ],
        "uniform, per tensor": [
            MeanSquaredErrorQuantizer(bits, "per_tensor")
            for bits in (3, 4, 5, 6)
        ],
        "k-means, per channel": [KMeansQuantizer(bits) for bits in (2, 3, 4)],
        "k-means, channel scales": [
            KMeansQuantizer(bits, "per_group", 1 << 20) for bits in (2, 3, 4, 5)
        ],
        "k-means, per tensor": [
            KMeansQuantizer(bits, "per_tensor") for bits in (2, 3, 4, 5)
        ],
        "rate-distortion": [
            RateDistortionQuantizer(bits) for bits in (3, 4, 5, 6)
        ],
        "entropy-constrained": [
            EntropyConstrainedQuantizer(6, entropy_bits=knob) for knob in KNOBS
        ],
    }


def compare_at_equal_ratio(path: str, profile: str) -> None:
    kernels = kernels_of(path)
    weights = sum(kernel.size for kernel in kernels.values())
    print(f"\n{len(kernels)} kernels, {weights:,} weights, {profile!r}")
    results = {
        name: np.array([rate(kernels, q, profile) for q in variants])
        for name, variants in quantizers().items()
    }
    aim = results["uniform, per channel"][1, 0]
    print(f"{'quantizer':<24} {f'bits at {aim:.2f} dB':>16}  SNR dB: bits")
    for name, found in results.items():
        inside = found[0, 0] <= aim <= found[-1, 0]
        bits = np.interp(aim, *found.T) if inside else np.nan
        points = ", ".join(f"{snr:.1f}: {b:.2f}" for snr, b in found)
        print(f"{name:<24} {bits:16.3f}  {points}")


if __name__ == "__main__":
    compare_with_scikit_learn()
    for given in sys.argv[1:]:
        for coder in ("fast", "small"):
            compare_at_equal_ratio(given, coder)
