"""`summary`: what a live model's weights are, and what they would cost."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_squeeze.artifact import Artifact
from keras_squeeze.codecs.profiles import check_profile
from keras_squeeze.errors import NoKernelMatchedError
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.stored_kernel import StoredKernel
from keras_squeeze.pruning.recognition import recognize
from keras_squeeze.report import Report
from keras_squeeze.saving.draft import Draft
from keras_squeeze.surgery.kernel_quantization import channel_axis
from keras_squeeze.surgery.layer_tree import (
    find_kernels,
    named_variables,
    to_numpy,
    walk_layers,
)

COLUMNS = (
    "layer",
    "weight",
    "shape",
    "parameters",
    "sparsity",
    "nonzeros",
    "pattern",
    "bits",
    "bytes",
)


@dataclasses.dataclass(frozen=True)
class _Weight:
    """A weight of the model: one variable, or codes with their scale."""

    path: str
    variables: tuple[str, ...]
    values: np.ndarray
    bits: int
    num_bytes: int
    channel_axis: tuple[int, ...] | None


def summary(model: Any, coded: bool = True, profile: str = "auto") -> Report:
    """Lists a model's weights: shapes, zeros, bits, bytes now and coded.

    The pattern of a kernel is read off its zeros, whoever made them. The
    codes and the scale of a quantized kernel are one row; its zeros are those
    of its codes.

    Args:
        model: A built `keras.Model`; it is not changed.
        coded: Boolean. Whether to code every weight as `ks.export` would,
            which takes as long. Defaults to `True`.
        profile: String. Which codecs to code with, as in `ks.export`.
            Defaults to `"auto"`.

    Returns:
        A `Report` with a row a weight, in model order: `layer`, `weight`,
        `shape`, `parameters`, `sparsity`, `nonzeros`, `pattern` (kernels
        only: `"dense"`, `"unstructured"`, `"channel"`, `"2:4"` or any other
        `n:m`, `"block"` with its shape, `"empty"`), `bits` a weight in
        memory, `bytes` in memory, and `coded_bytes`. The totals hold their
        sums, the sparsity of all kernels, and the size of the file that
        `ks.export(model, path, profile=profile)` would write.

    Raises:
        UnbuiltModelError: If the model has no variables yet.
        SqueezeError: If there is no such profile.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> report = summary(model, coded=False)
    >>> [(row["weight"], row["bytes"]) for row in report.rows]
    [('kernel', 32), ('bias', 8)]
    """
    check_profile(profile)
    weights = list(_weights(model))
    rows = tuple(_row(weight) for weight in weights)
    title = f"{type(model).__name__} {model.name!r}"
    report = Report(title, COLUMNS, rows, _totals(rows))
    if not coded:
        return report
    return _with_coded_bytes(report, weights, _coded(model, profile))


def _weights(model: Any) -> Iterator[_Weight]:
    variables = named_variables(model)
    weights = {id(variable) for variable in model.weights}
    axes = _channel_axes(model)
    quantized = _quantized_kernels(model)
    paths = {id(variable): path for path, variable in variables.items()}
    parts = {
        id(variable)
        for stored in quantized.values()
        for variable in stored.variables.values()
    }
    for path, variable in variables.items():
        if id(variable) in quantized:
            yield _quantized(path, quantized[id(variable)], paths)
        elif id(variable) in weights - parts:
            values = to_numpy(variable)
            yield _Weight(
                path=path,
                variables=(path,),
                values=values,
                bits=8 * values.itemsize,
                num_bytes=values.nbytes,
                channel_axis=axes.get(id(variable)),
            )


def _channel_axes(model: Any) -> dict[int, tuple[int, ...]]:
    try:
        kernels = find_kernels(model)
    except NoKernelMatchedError:
        return {}
    return {id(kernel.variable): channel_axis(kernel) for kernel in kernels}


def _quantized_kernels(model: Any) -> dict[int, StoredKernel]:
    return {
        id(layer.stored(name).part("codes")): layer.stored(name)
        for _, layer in walk_layers(model)
        if isinstance(layer, QuantizedKernel)
        for name in layer.layouts
    }


def _quantized(
    path: str, stored: StoredKernel, paths: dict[int, str]
) -> _Weight:
    layout, variables = stored.layout, list(stored.variables.values())
    folder, slash, _ = path.rpartition("/")
    return _Weight(
        path=f"{folder}{slash}{layout.name}",
        variables=tuple(paths[id(variable)] for variable in variables),
        values=stored.tensor().dequantize(),
        bits=layout.quantizer.bits,
        num_bytes=sum(to_numpy(variable).nbytes for variable in variables),
        channel_axis=layout.channel_axis,
    )


def _row(weight: _Weight) -> dict[str, Any]:
    layer, _, name = weight.path.rpartition("/")
    values, axis = weight.values, weight.channel_axis
    nonzeros = int(np.count_nonzero(values))
    sparsity = round(1 - nonzeros / values.size, 4) if values.size else None
    return {
        "layer": layer,
        "weight": name,
        "shape": list(values.shape),
        "parameters": values.size,
        "sparsity": sparsity,
        "nonzeros": nonzeros,
        "pattern": None if axis is None else recognize(values, axis),
        "bits": weight.bits,
        "bytes": weight.num_bytes,
    }


def _totals(rows: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    kernels = [row for row in rows if row["pattern"] is not None]
    size = sum(math.prod(row["shape"]) for row in kernels)
    left = sum(row["nonzeros"] for row in kernels)
    return {
        "parameters": sum(row["parameters"] for row in rows),
        "nonzeros": sum(row["nonzeros"] for row in rows),
        "kernel_sparsity": round(1 - left / size, 4) if size else 0.0,
        "bytes": sum(row["bytes"] for row in rows),
    }


def _coded(model: Any, profile: str) -> Artifact:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "summary.h5")
        return Draft(model, profile).write(path)


def _with_coded_bytes(
    report: Report, weights: list[_Weight], written: Artifact
) -> Report:
    stored = {tensor.name: tensor.stored_bytes for tensor in written.tensors}
    rows = tuple(
        {**row, "coded_bytes": sum(stored[name] for name in weight.variables)}
        for row, weight in zip(report.rows, weights, strict=True)
    )
    totals = {
        **report.totals,
        "coded_bytes": sum(row["coded_bytes"] for row in rows),
        "file_bytes": written.file_bytes,
    }
    columns = (*report.columns, "coded_bytes")
    return dataclasses.replace(
        report, columns=columns, rows=rows, totals=totals
    )
