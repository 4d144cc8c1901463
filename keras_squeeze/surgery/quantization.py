"""`quantize`: a copy of a model with quantized kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_squeeze.errors import NoKernelMatchedError
from keras_squeeze.layers.conversion import (
    convert_layer,
    reason_not_quantizable,
)
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.quantizer_arguments import layer_quantizer
from keras_squeeze.quantizers import QuantizedTensor
from keras_squeeze.report import Report
from keras_squeeze.surgery.copying import compile_alike, replicate
from keras_squeeze.surgery.kernel_quantization import (
    DEFAULT_QUANTIZER,
    encode_kernel,
)
from keras_squeeze.surgery.layer_tree import (
    Filters,
    Kernel,
    check_built,
    find_kernels,
    kernel_attributes,
    matches,
    to_numpy,
    walk_layers,
)
from keras_squeeze.surgery.quantized_structure import adopt_attention

_COLUMNS = (
    "layer",
    "class",
    "shape",
    "bits",
    "sparsity",
    "snr_db",
    "bytes_before",
    "bytes_after",
)


def quantize(
    model: Any,
    bits: int = 8,
    granularity: str = "per_channel",
    filters: Filters = None,
    quantizer: Any = DEFAULT_QUANTIZER,
    group_size: int | None = None,
) -> tuple[Any, Report]:
    """Makes a copy of a model whose layers hold quantized kernels.

    The copy predicts, trains its biases, saves and exports as any Keras
    model; its kernels are integer codes and scales in memory too. The model
    given is not changed.

    Sublayers of layers and models of your own classes are quantized as well.
    Keras' own `save` cannot bring these back, as their classes build float
    layers: store such models by `keras_squeeze.export`.

    Args:
        model: A built `keras.Model`.
        bits: Integer from 1 to 8. Defaults to `8`.
        granularity: String. One scale `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        filters: Optional regex searched in the kernel's path, or callable
            `layer -> bool`. `None` takes all. Defaults to `None`.
        quantizer: String, config or `Quantizer`. `"mse"` minimises the
            squared error of the kernel, `"absmax"` clips nothing. A
            `Quantizer` brings its own bits, granularity and group size.
            Defaults to `"mse"`.
        group_size: Integer. Number of weights that share a scale, for
            `granularity="per_group"`. Defaults to `None`.

    Returns:
        Tuple of the new model and a `Report` with a row a layer; `snr_db` is
        the signal-to-noise ratio of the kernel, `None` if it is exact.

    Raises:
        NoKernelMatchedError: If no kernel is left; the message lists the
            candidates.
        NonFiniteError: If a kernel holds NaN or infinity.
        SqueezeError: If an argument is out of its range.
        UnsupportedModelError: If the model cannot be copied.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> small, report = quantize(model, bits=4)
    >>> report.rows[0]["bytes_before"], report.rows[0]["bytes_after"]
    (32, 12)
    """
    chosen = layer_quantizer(quantizer, bits, granularity, group_size)
    check_built(model)
    kernels, skipped = _select(model, filters)
    encoded = {
        _layer_path(kernel): encode_kernel(kernel, chosen) for kernel in kernels
    }
    copy = replicate(model)
    layers = dict(walk_layers(copy))
    for path, tensor in encoded.items():
        convert_layer(layers[path], chosen, tensor)
    adopt_attention(copy)
    compile_alike(model, copy)
    rows = tuple(
        _row(kernel, layers[_layer_path(kernel)], encoded[_layer_path(kernel)])
        for kernel in kernels
    )
    title = f"Quantized {len(rows)} kernels of {model.name} with {chosen}"
    report = Report(title, _COLUMNS, rows, _totals(rows), tuple(skipped))
    return copy, report


def _layer_path(kernel: Kernel) -> str:
    return kernel.path.rpartition("/")[0]


def _select(
    model: Any, filters: Filters
) -> tuple[list[Kernel], list[dict[str, str]]]:
    skipped = _quantized_before(model)
    candidates = []
    for kernel in find_kernels(model):
        reason = _reason(kernel)
        if reason is None:
            candidates.append(kernel)
        else:
            skipped.append({"path": kernel.path, "reason": reason})
    matched = [kernel for kernel in candidates if matches(filters, kernel)]
    if not matched:
        raise _no_match(model, filters, candidates, skipped)
    kept = {kernel.path for kernel in matched}
    skipped += [
        {"path": kernel.path, "reason": "not matched by `filters`"}
        for kernel in candidates
        if kernel.path not in kept
    ]
    return matched, skipped


def _quantized_before(model: Any) -> list[dict[str, str]]:
    return [
        {"path": path, "reason": str(reason_not_quantizable(layer))}
        for path, layer in walk_layers(model)
        if isinstance(layer, QuantizedKernel)
        or (
            kernel_attributes(layer)
            and getattr(layer, "quantization_mode", None)
            not in (None, "float8")
        )
    ]


def _reason(kernel: Kernel) -> str | None:
    if kernel.attribute == "recurrent_kernel" or (
        "recurrent_kernel" in kernel_attributes(kernel.layer)
    ):
        return "recurrent cells have no quantized layer yet"
    return reason_not_quantizable(kernel.layer)


def _no_match(
    model: Any,
    filters: Filters,
    candidates: list[Kernel],
    skipped: list[dict[str, str]],
) -> NoKernelMatchedError:
    names = ", ".join(kernel.path for kernel in candidates) or "none"
    reasons = "; ".join(f"{s['path']}: {s['reason']}" for s in skipped)
    return NoKernelMatchedError(
        f"Expected `filters` to match at least one quantizable kernel of "
        f"{model.name!r}; the candidates are: {names}"
        + (f" (not candidates: {reasons})" if reasons else "")
        + f". Received: filters={filters!r}"
    )


def _row(kernel: Kernel, layer: Any, tensor: QuantizedTensor) -> dict[str, Any]:
    before = to_numpy(kernel.variable)
    after = tensor.dequantize()
    variables = [getattr(layer, name) for name in layer.layout.variables()]
    return {
        "layer": _layer_path(kernel),
        "class": type(layer).__name__,
        "shape": list(before.shape),
        "bits": tensor.bits,
        "granularity": layer.kernel_quantizer.granularity,
        "sparsity": float(np.mean(after == 0)),
        "snr_db": _snr_db(before, after),
        "bytes_before": int(before.nbytes),
        "bytes_after": sum(int(to_numpy(v).nbytes) for v in variables),
    }


def _snr_db(before: np.ndarray, after: np.ndarray) -> float | None:
    exact = before.astype(np.float64)
    signal = float(np.sum(np.square(exact)))
    noise = float(np.sum(np.square(exact - after)))
    if noise == 0 or signal == 0:
        return None
    return 10 * math.log10(signal / noise)


def _totals(rows: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    before = sum(row["bytes_before"] for row in rows)
    after = sum(row["bytes_after"] for row in rows)
    return {
        "kernels": len(rows),
        "bytes_before": before,
        "bytes_after": after,
        "ratio": before / after,
    }
