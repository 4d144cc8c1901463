"""The report of `quantize`: a row a kernel, and figures of the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers import QuantizedTensor
from keras_squeeze.surgery.layer_tree import to_numpy

COLUMNS = (
    "layer",
    "kernel",
    "class",
    "shape",
    "bits",
    "sparsity",
    "snr_db",
    "bytes_before",
    "bytes_after",
)


def kernel_row(
    path: str,
    layer: Any,
    kernel: str,
    before: NDArray[Any],
    tensor: QuantizedTensor,
) -> dict[str, Any]:
    """What became of one kernel.

    Args:
        path: String. The layer's path.
        layer: The quantized layer.
        kernel: String. The kernel's name.
        before: Array, its value before.
        tensor: `QuantizedTensor`.

    Returns:
        JSON-ready dictionary with the `COLUMNS`, and `granularity`.
    """
    after = tensor.dequantize()
    variables = layer.stored(kernel).variables.values()
    return {
        "layer": path,
        "kernel": kernel,
        "class": type(layer).__name__,
        "shape": list(before.shape),
        "bits": tensor.bits,
        "granularity": layer.kernel_quantizer.granularity,
        "sparsity": float(np.mean(after == 0)),
        "snr_db": _snr_db(before, after),
        "bytes_before": int(before.nbytes),
        "bytes_after": sum(int(to_numpy(v).nbytes) for v in variables),
    }


def _snr_db(before: NDArray[Any], after: NDArray[Any]) -> float | None:
    exact = before.astype(np.float64)
    signal = float(np.sum(np.square(exact)))
    noise = float(np.sum(np.square(exact - after)))
    if noise == 0 or signal == 0:
        return None
    return 10 * math.log10(signal / noise)


def totals(rows: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Sums over all kernels.

    Args:
        rows: Tuple of what `kernel_row` returned.

    Returns:
        JSON-ready dictionary.
    """
    before = sum(row["bytes_before"] for row in rows)
    after = sum(row["bytes_after"] for row in rows)
    bits = sum(row["bits"] * math.prod(row["shape"]) for row in rows)
    return {
        "kernels": len(rows),
        "bits_per_weight": bits / sum(math.prod(row["shape"]) for row in rows),
        "bytes_before": before,
        "bytes_after": after,
        "ratio": before / after,
    }


def step_figures(
    units: tuple[str, ...], figures: Mapping[str, float]
) -> dict[str, Any]:
    """The figures after each step of a calibration.

    Args:
        units: Tuple of the names of the units that were used.
        figures: Mapping of names to floats.

    Returns:
        JSON-ready dictionary; `None` stands for infinity.
    """
    finite = {
        name: value if math.isfinite(value) else None
        for name, value in figures.items()
    }
    return {**({"method": ", ".join(units)} if units else {}), **finite}


def validation_figures(
    before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, float]:
    """Both sides of a validation.

    Args:
        before: Mapping of names to floats, of the model.
        after: The same of the quantized one.

    Returns:
        Dictionary of names, with `_before` and `_after`, to floats.
    """
    found = {}
    for name, value in before.items():
        found[f"{name}_before"] = value
        found[f"{name}_after"] = after[name]
    return found
