"""`quantize`: a model with quantized kernels, as a copy or in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_squeeze.calibration.bit_allocation import layer_bits, with_bits
from keras_squeeze.calibration.calibrating import (
    Calibrated,
    calibrate,
    calibrate_data_free,
    check_method,
)
from keras_squeeze.calibration.samples import sample_batches
from keras_squeeze.calibration.validation import Validate, evaluate
from keras_squeeze.calibration.workplace import workplace
from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.conversion import QUANTIZED_CLASSES, convert_layer
from keras_squeeze.layers.kernel_layout import kernel_layout
from keras_squeeze.quantizers import QuantizedTensor, Quantizer
from keras_squeeze.report import Report
from keras_squeeze.surgery.copying import compile_alike, replicate
from keras_squeeze.surgery.kernel_quantization import (
    DEFAULT_QUANTIZER,
    encode_kernel,
)
from keras_squeeze.surgery.layer_tree import (
    Filters,
    check_built,
    to_numpy,
    walk_layers,
)
from keras_squeeze.surgery.optimizer_migration import (
    migrate_optimizer,
    renew_functions,
)
from keras_squeeze.surgery.quantization_report import (
    COLUMNS,
    kernel_row,
    step_figures,
    totals,
    validation_figures,
)
from keras_squeeze.surgery.quantization_request import (
    LayerKernels,
    layer_quantizers,
    select_layers,
)
from keras_squeeze.surgery.quantized_structure import adopt_parents
from keras_squeeze.surgery.structure_version import mark_changed


def quantize(
    model: Any,
    bits: int | Mapping[str, int] | None = None,
    granularity: str = "per_channel",
    filters: Filters = None,
    quantizer: Any = DEFAULT_QUANTIZER,
    group_size: int | None = None,
    calibration: Any = None,
    method: Any = "auto",
    validate: Validate = None,
    inplace: bool = False,
    average_bits: float | None = None,
) -> tuple[Any, Report]:
    """Makes a model whose layers hold quantized kernels.

    It predicts, trains its biases, saves and exports as any Keras model; its
    kernels are integer codes and scales in memory too. The model given is not
    changed, unless `inplace`.

    Without `calibration`, weights are rounded to the nearest code. Some
    hundred inputs lose much less, above all with 4 bits and fewer: each layer
    is then quantized for the least error of its outputs, on what the layers
    before it left. Labels are not needed.

    Sublayers of layers and models of your own classes are quantized as well.
    Keras' own `save` cannot bring these back, as their classes build float
    layers: store such models by `keras_squeeze.export`.

    Args:
        model: A built `keras.Model`.
        bits: Integer from 1 to 8, or a mapping of regexes, searched in the
            paths of kernels, to integers: the first that is found counts,
            layers where none is found stay as they are. Defaults to the
            quantizer's own, mostly `8`.
        granularity: String. One scale `"per_tensor"`, `"per_channel"` or
            `"per_group"`. Defaults to `"per_channel"`.
        filters: Optional regex searched in the kernel's path, or callable
            `layer -> bool`. A layer with several kernels is quantized if one
            of them matches. `None` takes all. Defaults to `None`.
        quantizer: String, config or `Quantizer`. `"mse"` minimises the
            squared error of the kernel, `"absmax"` clips nothing, `"affine"`
            has zero points, `"nf4"` and `"kmeans"` codebooks;
            `ks.quantizers.registry` names all. A `Quantizer` brings its own
            bits, granularity and group size. Defaults to `"mse"`.
        group_size: Integer. Number of weights that share a scale, for
            `granularity="per_group"`. Defaults to `None`.
        calibration: Optional inputs of the model, some hundred samples: an
            array, a list or dictionary of arrays, or a `tf.data.Dataset`.
            Positions that Keras masks do not count. Defaults to `None`.
        method: String or list. `"round"` takes the nearest codes. A list
            names units of calibration: `"fold_batch_norm"`, `"equalize"`,
            `"activation_scaling"`, `"reconstruct"`, `"correct_bias"`,
            `"reestimate_batch_norm"`. `"auto"` tries one after the other and
            keeps those that bring the outputs on the calibration data closer
            to the model's; without such data it rounds. `"fold_batch_norm"`,
            `"equalize"` and `"correct_bias"` can be named without data too.
            Defaults to `"auto"`.
        validate: Optional validation data for figures in the report: a pair
            `(x, y)` or a `tf.data.Dataset`, given to `evaluate` (the model
            must be compiled), or a callable `model -> float or dict`.
        inplace: Boolean. Whether to change the model itself, which is
            returned then. What was compiled goes on, the optimizer with what
            it remembers. Nothing is changed on an error. A model that cannot
            be copied is calibrated itself: its weights change meanwhile, and
            are put back if that fails. Defaults to `False`.
        average_bits: Optional float. Gives each layer 1 to 8 bits, so that
            this is the mean over all weights and the error small; in place
            of `bits`. Defaults to `None`.

    Returns:
        Tuple of the new model and a `Report` with a row a kernel; `snr_db`
        is the signal-to-noise ratio of the kernel, `None` if it is exact.
        With calibration its totals say how close the outputs are,
        `output_snr_db`; those of `"auto"` also after each unit that was kept,
        `output_snr_db_<unit>` and the figures of `validate`.

    Raises:
        NoKernelMatchedError: If no kernel is left; the message lists the
            candidates.
        NonFiniteError: If a kernel, or what a layer meets on the calibration
            data, holds NaN or infinity.
        SqueezeError: If an argument is out of its range, or the calibration
            data is empty or of another shape.
        UnsupportedModelError: If the model cannot be copied, and `inplace` is
            false.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> small, report = quantize(model, bits=4)
    >>> report.rows[0]["bytes_before"], report.rows[0]["bytes_after"]
    (32, 12)
    """
    units = check_method(method, calibration is not None)
    check_built(model)
    layers, skipped = select_layers(model, filters)
    by_layer, unmatched = layer_quantizers(
        layers, bits, granularity, quantizer, group_size
    )
    layers = [found for found in layers if found.path in by_layer]
    batches = (
        None if calibration is None else sample_batches(model, calibration)
    )
    if average_bits is not None:
        _check_alone(bits, quantizer)
        by_layer = _mixed(
            model, layers, by_layer, average_bits, batches, inplace
        )
    before = evaluate(model, validate)
    found = _calibrated(
        model, layers, by_layer, batches, units, validate, inplace
    )
    result = _apply(model, found, layers, by_layer, inplace)
    rows = _rows(result, layers, found)
    names = sorted({str(by_layer[item.path]) for item in layers})
    report = Report(
        f"Quantized {len(rows)} kernels of {model.name} with "
        + ", ".join(names),
        COLUMNS,
        rows,
        {
            **totals(rows),
            **step_figures(found.units, found.figures),
            **validation_figures(before, evaluate(result, validate)),
        },
        tuple(skipped + unmatched),
    )
    return result, report


def _check_alone(bits: Any, quantizer: Any) -> None:
    if isinstance(bits, Mapping) or isinstance(quantizer, Quantizer):
        raise SqueezeError(
            "Expected `average_bits` to choose the bits of all layers. "
            f"Received: also bits={bits!r}, quantizer={quantizer!r}"
        )


def _mixed(
    model: Any,
    layers: list[LayerKernels],
    by_layer: Mapping[str, Quantizer],
    average_bits: float,
    batches: list[Any] | None,
    inplace: bool,
) -> dict[str, Quantizer]:
    kernels = {item.path: [k.path for k in item.kernels] for item in layers}
    found = layer_bits(model, kernels, by_layer, average_bits, batches, inplace)
    return {path: with_bits(by_layer[path], n) for path, n in found.items()}


def _calibrated(
    model: Any,
    layers: list[LayerKernels],
    by_layer: Mapping[str, Quantizer],
    batches: list[Any] | None,
    units: tuple[str, ...] | None,
    validate: Validate,
    inplace: bool,
) -> Calibrated:
    """The codes of all kernels, and the model that they were made for."""
    quantizers = {
        kernel.path: by_layer[found.path]
        for found in layers
        for kernel in found.kernels
    }

    def measure(work: Any) -> dict[str, float]:
        if validate is not None and work is not model:
            compile_alike(model, work)
        return evaluate(work, validate)

    if batches is not None:
        place = workplace(model, inplace)
        return calibrate(place, batches, quantizers, units, measure)
    if units:
        place = workplace(model, inplace)
        return calibrate_data_free(place, quantizers, units, measure)
    kernels = [kernel for found in layers for kernel in found.kernels]
    tensors = {k.path: encode_kernel(k, quantizers[k.path]) for k in kernels}
    originals = {k.path: to_numpy(k.variable) for k in kernels}
    return Calibrated(None, tensors, originals, (), {})


def _apply(
    model: Any,
    found: Calibrated,
    layers: list[LayerKernels],
    by_layer: Mapping[str, Quantizer],
    inplace: bool,
) -> Any:
    tensors = {
        item.path: {k.attribute: found.tensors[k.path] for k in item.kernels}
        for item in layers
    }
    if inplace:
        # All that can fail comes before the first change.
        for item in layers:
            _check_fit(item, by_layer[item.path], tensors[item.path])
        if found.state is not None:
            found.state.move_into(model)
        target = model
    else:
        target = _copy_of(model, found)
    there = dict(walk_layers(target))
    for path, values in tensors.items():
        convert_layer(there[path], by_layer[path], values)
    adopt_parents(target)
    if inplace:
        _carry_on(model)
    else:
        compile_alike(model, target)
    return target


def _copy_of(model: Any, found: Calibrated) -> Any:
    if found.state is None:
        return replicate(model)
    with found.state.shown() as copy:
        return copy


def _check_fit(
    item: LayerKernels,
    quantizer: Quantizer,
    tensors: Mapping[str, QuantizedTensor],
) -> None:
    target = QUANTIZED_CLASSES[type(item.layer)]
    for kernel in item.kernels:
        shape = tuple(kernel.variable.shape)
        name = kernel.attribute
        layout = kernel_layout(target, item.layer, name, shape, quantizer)
        layout.values(tensors[name])


def _carry_on(model: Any) -> None:
    """A training that has begun goes on with the variables that are left."""
    optimizer = getattr(model, "optimizer", None)
    migrate_optimizer(optimizer, model.trainable_variables)
    mark_changed(model)
    if isinstance(model, keras.Model):
        renew_functions(model)


def _rows(
    model: Any, layers: list[LayerKernels], found: Calibrated
) -> tuple[dict[str, Any], ...]:
    there = dict(walk_layers(model))
    return tuple(
        kernel_row(
            item.path,
            there[item.path],
            kernel.attribute,
            found.originals[kernel.path],
            found.tensors[kernel.path],
        )
        for item in layers
        for kernel in item.kernels
    )
