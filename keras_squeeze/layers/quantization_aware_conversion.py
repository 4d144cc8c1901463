"""A live layer begins to be trained with rounding, and becomes quantized."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.class_change import change_class
from keras_squeeze.layers.conversion import (
    convert_layer,
    kernel_axis,
    kernel_variables,
    reason_not_quantizable,
)
from keras_squeeze.layers.dequantizing import (
    FloatKernels,
    float_kernels,
    hold_float_kernels,
    stock_class,
)
from keras_squeeze.layers.kernel_layout import KernelLayout
from keras_squeeze.layers.quantization_aware import QuantizationAware
from keras_squeeze.layers.quantization_aware_classes import (
    QUANTIZATION_AWARE_CLASSES,
)
from keras_squeeze.layers.quantization_aware_kernel import (
    TrainedKernel,
    to_array,
)
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.quantizer_arguments import layer_quantizer
from keras_squeeze.layers.tracked_variables import drop_variable, unlocked
from keras_squeeze.quantizers import QuantizedTensor, Quantizer

Tensors = Mapping[str, QuantizedTensor]


def reason_not_trainable_on_grid(layer: Any) -> str | None:
    """Why a layer cannot be trained with rounding; `None` if it can.

    Args:
        layer: A Keras layer: of a class of Keras, or quantized.

    Returns:
        String or `None`.
    """
    if isinstance(layer, QuantizationAware):
        return "trained with quantization already"
    if isinstance(layer, QuantizedKernel):
        try:
            stock = stock_class(layer)
        except SqueezeError as error:
            return str(error)
        return None if stock in QUANTIZATION_AWARE_CLASSES else "no such layer"
    return reason_not_quantizable(layer)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a layer needs to be trained with rounding, made beforehand.

    Args:
        layer: The layer, still as it was.
        quantizer: `Quantizer`, the kind of its grids.
        learn_scale: Boolean. Whether steps or levels are learned.
        kernels: Dictionary of kernel name to `TrainedKernel` without parts.
        values: Dictionary of kernel name to its parts' arrays by part name.
        floats: The float kernels of a quantized layer, or `None`.
    """

    layer: Any
    quantizer: Quantizer
    learn_scale: bool
    kernels: dict[str, TrainedKernel]
    values: dict[str, dict[str, Any]]
    floats: FloatKernels | None = None

    @property
    def removed(self) -> list[Any]:
        """Variables that the layer will no longer have."""
        return [] if self.floats is None else stored_variables(self.layer)


def stored_variables(layer: Any) -> list[Any]:
    """The variables that hold the codes and grids of a quantized layer."""
    names = [n for layout in layer.layouts.values() for n in layout.variables()]
    return [getattr(layer, name) for name in names]


def prepare_layer(
    layer: Any,
    quantizer: Quantizer | None,
    learn_scale: bool = True,
    tensors: Tensors | None = None,
    name: str = "",
    is_empty: bool = False,
) -> Preparation:
    """Makes what a layer needs to be trained with rounding.

    Args:
        layer: A built layer of exactly a class of Keras, or quantized.
        quantizer: `Quantizer`; not looked at for a quantized layer, which
            keeps the grid that it has.
        learn_scale: Boolean. Whether steps or levels are learned. Defaults
            to `True`.
        tensors: Optional mapping of kernel name to `QuantizedTensor`: grids
            to begin with. Defaults to those that the quantizer chooses.
        name: String. The layer's path, for the message of an error.
        is_empty: Boolean. Whether grids are to be loaded later: nothing is
            chosen then. Defaults to `False`.

    Returns:
        `Preparation`; the layer is unchanged.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the layer cannot be trained so, or a tensor does not
            fit.
    """
    reason = reason_not_trainable_on_grid(layer)
    if reason is not None:
        raise SqueezeError(
            "Expected a layer that can be trained with quantization, one of "
            f"{sorted(c.__name__ for c in QUANTIZATION_AWARE_CLASSES)}. "
            f"Received: {name or layer.name!r}, {reason}"
        )
    floats = None
    if isinstance(layer, QuantizedKernel):
        floats, quantizer = float_kernels(layer), layer.kernel_quantizer
        variables = floats.variables
        tensors = {n: layer.quantized_kernel(n) for n in variables}
    else:
        variables = kernel_variables(layer)
    if quantizer is None:
        raise SqueezeError("Expected a quantizer. Received: None")
    kernels, values = {}, {}
    for kernel, variable in variables.items():
        shape = tuple(int(size) for size in variable.shape)
        axis = kernel_axis(layer, kernel, shape)
        layout = KernelLayout(kernel, shape, axis, False, quantizer)
        trained = TrainedKernel(layout, learn_scale, variable)
        kernels[kernel] = trained
        if is_empty:
            values[kernel] = trained.empty_values()
            continue
        weights = to_array(variable.value)
        path = f"{name or layer.name}/{kernel}"
        given = (tensors or {}).get(kernel)
        tensor = given or quantizer.encode(weights, axis, path)
        values[kernel] = trained.values(tensor, weights)
    return Preparation(layer, quantizer, learn_scale, kernels, values, floats)


def apply_preparation(prepared: Preparation) -> list[Any]:
    """Turns a layer into the class that is trained with rounding.

    Args:
        prepared: What `prepare_layer` made of the layer as it is now.

    Returns:
        List of the new trainable `keras.Variable`s, besides kernels.
    """
    layer = prepared.layer
    if prepared.floats is not None:
        hold_float_kernels(prepared.floats)
    parts = {
        name: variable
        for kernel, values in prepared.values.items()
        for name, variable in _new_parts(
            prepared.kernels[kernel], values
        ).items()
    }
    layouts = tuple(kernel.layout for kernel in prepared.kernels.values())
    with unlocked(layer):
        change_class(layer, QUANTIZATION_AWARE_CLASSES[type(layer)])
        layer.kernel_quantizer = prepared.quantizer
        layer.learn_scale = prepared.learn_scale
        layer._layouts = layouts
        for name, variable in parts.items():
            setattr(layer, name, variable)
    added = [v for v in parts.values() if v.trainable]
    _freeze_like_kernels(layer, added)
    return added


def _new_parts(
    kernel: TrainedKernel, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Variables under the name scope of the kernel, in order."""
    path = kernel.variable.path
    scope, _, inner = path.rpartition("/")[0].rpartition("/")
    made = {}
    for part, spec in kernel.specs().items():
        name = kernel.layout.variable_name(part)
        arguments = {
            "dtype": spec.dtype,
            "trainable": spec.trainable,
            "autocast": False,
            "name": name,
        }
        if inner:
            with keras.name_scope(inner, override_parent=scope):
                made[name] = keras.Variable(values[part], **arguments)
        else:
            made[name] = keras.Variable(values[part], **arguments)
    return made


def _freeze_like_kernels(layer: Any, added: list[Any]) -> None:
    kernels = [layer.kernel_variable(name) for name in layer.layouts]
    if not layer.trainable or not any(k.trainable for k in kernels):
        for variable in added:
            variable.trainable = False


def to_quantization_aware(
    layer: Any,
    quantizer: Any = "mse",
    bits: int = 8,
    granularity: str = "per_channel",
    group_size: int | None = None,
    learn_scale: bool = True,
    tensors: Tensors | None = None,
) -> list[Any]:
    """Lets a live layer be trained with the rounding of its kernels, in place.

    The object stays and so do its float kernels; it becomes an instance of
    the class that rounds them. A quantized layer gets float kernels again and
    keeps its grid; what is said of quantizers is not looked at then.
    Functions that were traced before still compute with the old ones, and an
    optimizer does not know the variables that are new: make them anew.
    Nothing is changed on an error.

    Args:
        layer: A built layer of exactly a class of Keras, or quantized.
        quantizer: String, config or `Quantizer`, which chooses the grids to
            begin with. Defaults to `"mse"`.
        bits: Integer from 1 to 8. Defaults to `8`.
        granularity: String. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        learn_scale: Boolean. Whether steps or levels are learned. Defaults
            to `True`.
        tensors: Optional mapping of kernel name to `QuantizedTensor` of that
            quantizer: grids to begin with. Defaults to `None`.

    Returns:
        List of the new trainable `keras.Variable`s.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the layer cannot be trained so.

    Example:
    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> added = to_quantization_aware(layer, bits=4)
    >>> type(layer).__name__, [variable.name for variable in added]
    ('QuantizationAwareDense', ['kernel_log_step'])
    >>> freeze(layer)["kernel"].bits, type(layer).__name__
    (4, 'QuantizedDense')
    """
    chosen = layer_quantizer(quantizer, bits, granularity, group_size)
    prepared = prepare_layer(layer, chosen, learn_scale, tensors)
    return apply_preparation(prepared)


def to_stock(layer: Any) -> None:
    """Gives a layer its class of Keras back, with its float kernels.

    Args:
        layer: A built layer that is trained with rounding.

    Raises:
        SqueezeError: If it is none.
    """
    _check_aware(layer)
    names = [
        kernel.layout.variable_name(part)
        for kernel in map(layer.trained_kernel, layer.layouts)
        for part in kernel.parts
    ]
    with unlocked(layer):
        for name in names:
            drop_variable(layer, name)
        for name in ("kernel_quantizer", "learn_scale", "_layouts"):
            layer.__dict__.pop(name, None)
        change_class(layer, stock_class(layer))


def freeze(
    layer: Any, tensors: Tensors | None = None
) -> Mapping[str, QuantizedTensor]:
    """Turns a layer that is trained with rounding into a quantized one.

    Its kernels are the codes on the grids that it has learned: what it
    computes stays the same.

    Args:
        layer: A built layer that is trained with rounding.
        tensors: What `frozen_tensors` gives for it, if that is known.
            Defaults to `None`.

    Returns:
        Dictionary of kernel name to `QuantizedTensor`.

    Raises:
        SqueezeError: If it is none, or a weight is not finite. The layer is
            unchanged then.
    """
    tensors = frozen_tensors(layer) if tensors is None else tensors
    quantizer = layer.kernel_quantizer
    to_stock(layer)
    convert_layer(layer, quantizer, tensors)
    return tensors


def frozen_tensors(layer: Any) -> dict[str, QuantizedTensor]:
    """The kernels of a layer as `freeze` stores them.

    Args:
        layer: A built layer that is trained with rounding.

    Returns:
        Dictionary of kernel name to `QuantizedTensor`.
    """
    _check_aware(layer)
    return {name: layer.quantized_kernel(name) for name in layer.layouts}


def _check_aware(layer: Any) -> None:
    if not isinstance(layer, QuantizationAware) or not layer.layouts:
        raise SqueezeError(
            "Expected a built layer that is trained with quantization. "
            f"Received: {layer.name!r} of type {type(layer).__name__}"
        )


__all__ = [
    "Preparation",
    "apply_preparation",
    "freeze",
    "frozen_tensors",
    "prepare_layer",
    "reason_not_trainable_on_grid",
    "to_quantization_aware",
    "to_stock",
]
