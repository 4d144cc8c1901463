"""`export`: a live model becomes one compact file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

import keras

from keras_squeeze import artifact
from keras_squeeze.artifact import Artifact, TensorInput
from keras_squeeze.artifact.writing import check_target
from keras_squeeze.errors import SqueezeError
from keras_squeeze.report import Report
from keras_squeeze.saving.loading import load_model
from keras_squeeze.saving.model_config import describe_model
from keras_squeeze.surgery import describe_quantized_layers
from keras_squeeze.surgery.kernel_quantization import encode_kernels
from keras_squeeze.surgery.layer_tree import (
    Filters,
    named_variables,
    to_numpy,
    walk_layers,
)

Validate = tuple[Any, Any] | Callable[[Any], Any] | Any | None


def export(
    model: Any,
    path: str | os.PathLike[str],
    bits: int | None = None,
    quantizer: Any = None,
    filters: Filters = None,
    validate: Validate = None,
    overwrite: bool = True,
    executor: Executor | None = None,
) -> Report:
    """Writes a model into one compact, verified `.h5`.

    Lossless unless asked: without `bits` and `quantizer` every variable
    reloads bit-equal. With them, kernels are stored as codes and scale and
    reload as plain floating-point kernels; `ks.quantize` makes layers that
    stay quantized in memory. The model itself is never changed.

    Args:
        model: A built `keras.Model`.
        path: Path that ends in `.h5`.
        bits: Optional integer, 1 to 8 or 16. Quantizes kernels in the file.
        quantizer: Optional identifier or `Quantizer`. Defaults to `None`,
            the default of `ks.quantize` if `bits` is given.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`: which kernels `bits` concerns. Defaults to all.
        validate: Optional validation data. A pair `(x, y)` or a
            `tf.data.Dataset`, given to `evaluate` of the model and of the
            reloaded file (the model must be compiled), or a callable
            `model -> float or dict`.
        overwrite: Boolean. Whether to replace an existing file. Defaults to
            `True`.
        executor: Optional `concurrent.futures.Executor` to code tensors in
            parallel. The bytes written do not depend on it.

    Returns:
        A `Report` with a row a tensor: shape, dtype, codec, sparsity,
        bits per weight, bytes and share of the file.

    Raises:
        UnbuiltModelError: If the model has no variables yet.
        NoKernelMatchedError: If `filters` leaves no kernel.
        NonFiniteError: If a kernel to quantize holds NaN or infinity.
        ArtifactError: If the file cannot be written; an existing file is
            left as it was.

    Example:
    >>> import keras, tempfile, os
    >>> import keras_squeeze as ks
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> path = os.path.join(tempfile.mkdtemp(), "m.h5")
    >>> report = ks.export(model, path)
    >>> ks.load_model(path).count_params()
    10
    """
    path = os.fspath(path)
    check_target(path, overwrite)
    variables = named_variables(model)
    if filters is not None and bits is None and quantizer is None:
        raise SqueezeError(
            "Expected `bits` or `quantizer` beside `filters`, which chooses "
            f"the kernels to quantize. Received: filters={filters!r} alone"
        )
    description = describe_model(model)
    description["quantized_layers"] = describe_quantized_layers(model)
    quantized = {}
    if bits is not None or quantizer is not None:
        quantized = encode_kernels(model, bits, quantizer, filters)
    written = artifact.write(
        path,
        _tensor_inputs(model, variables, quantized),
        description,
        keras_version=keras.__version__,
        backend=keras.backend.backend(),
        overwrite=overwrite,
        executor=executor,
    )
    return _with_validation(
        artifact.describe(written), model, written, validate
    )


def _tensor_inputs(
    model: Any, variables: Mapping[str, Any], quantized: Mapping[int, Any]
) -> list[TensorInput]:
    packings = _packings(model)
    inputs = []
    for path, variable in variables.items():
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if id(variable) in quantized:
            tensor = quantized[id(variable)]
            inputs.append(TensorInput.from_quantized(path, dtype, tensor))
        elif id(variable) in packings:
            packing = packings[id(variable)]
            inputs.append(
                TensorInput.from_packed(
                    path, to_numpy(variable), packing.width, packing.count
                )
            )
        else:
            inputs.append(TensorInput.from_values(path, to_numpy(variable)))
    return inputs


def _packings(model: Any) -> dict[int, Any]:
    packings = {}
    for _, layer in walk_layers(model):
        packing = getattr(layer, "packing", None)
        if packing is not None:
            packings[id(packing.variable)] = packing
    return packings


def _with_validation(
    report: Report, model: Any, written: Artifact, validate: Validate
) -> Report:
    if validate is None:
        return report
    before = _evaluate(model, validate)
    reloaded = load_model(written.path, custom_objects=_classes(model))
    if not callable(validate):
        reloaded.compile_from_config(model.get_compile_config())
    after = _evaluate(reloaded, validate)
    totals = dict(report.totals)
    for name, value in before.items():
        totals[f"{name}_before"] = value
        totals[f"{name}_after"] = after[name]
    return dataclasses.replace(report, totals=totals)


def _classes(model: Any) -> dict[str, Any]:
    """The caller holds the live model, so its classes are trusted."""
    layers = [layer for _, layer in walk_layers(model)]
    return {
        type(layer).__name__: type(layer)
        for layer in layers
        if not type(layer).__module__.startswith(("keras.", "keras_squeeze."))
    }


def _evaluate(model: Any, validate: Validate) -> dict[str, float]:
    if callable(validate):
        result = validate(model)
        if not isinstance(result, Mapping):
            result = {"validation": result}
        return {str(name): float(value) for name, value in result.items()}
    if not getattr(model, "compiled", False):
        raise SqueezeError(
            "Expected a compiled model, or a callable `validate(model)`. "
            f"Received: validate={type(validate).__name__} and the uncompiled "
            f"model {model.name!r}"
        )
    arguments = validate if isinstance(validate, tuple) else (validate,)
    results = model.evaluate(*arguments, verbose=0, return_dict=True)
    return {str(name): float(value) for name, value in results.items()}
