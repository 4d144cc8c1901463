"""A live Keras layer becomes its quantized class, in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from keras_squeeze.errors import SqueezeError, UnbuiltModelError
from keras_squeeze.layers import quantized_convolution as convolution
from keras_squeeze.layers import quantized_recurrent_cell as recurrent_cell
from keras_squeeze.layers import quantized_separable_convolution as separable
from keras_squeeze.layers.class_change import change_class
from keras_squeeze.layers.kernel_layout import kernel_layout
from keras_squeeze.layers.quantized_dense import QuantizedDense
from keras_squeeze.layers.quantized_einsum_dense import QuantizedEinsumDense
from keras_squeeze.layers.quantized_embedding import QuantizedEmbedding
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.quantized_reversible_embedding import (
    QuantizedReversibleEmbedding,
)
from keras_squeeze.layers.quantizer_arguments import layer_quantizer
from keras_squeeze.layers.tracked_variables import drop_variable, unlocked
from keras_squeeze.quantizers import QuantizedTensor, Quantizer

QUANTIZED_CLASSES: dict[type, Any] = {
    keras.layers.Dense: QuantizedDense,
    keras.layers.EinsumDense: QuantizedEinsumDense,
    keras.layers.Embedding: QuantizedEmbedding,
    keras.layers.Conv1D: convolution.QuantizedConv1D,
    keras.layers.Conv2D: convolution.QuantizedConv2D,
    keras.layers.Conv3D: convolution.QuantizedConv3D,
    keras.layers.Conv1DTranspose: convolution.QuantizedConv1DTranspose,
    keras.layers.Conv2DTranspose: convolution.QuantizedConv2DTranspose,
    keras.layers.Conv3DTranspose: convolution.QuantizedConv3DTranspose,
    keras.layers.DepthwiseConv1D: convolution.QuantizedDepthwiseConv1D,
    keras.layers.DepthwiseConv2D: convolution.QuantizedDepthwiseConv2D,
    keras.layers.SeparableConv1D: separable.QuantizedSeparableConv1D,
    keras.layers.SeparableConv2D: separable.QuantizedSeparableConv2D,
    keras.layers.ReversibleEmbedding: QuantizedReversibleEmbedding,
    keras.layers.LSTMCell: recurrent_cell.QuantizedLSTMCell,
    keras.layers.GRUCell: recurrent_cell.QuantizedGRUCell,
    keras.layers.SimpleRNNCell: recurrent_cell.QuantizedSimpleRNNCell,
    ConvLSTMCell: recurrent_cell.QuantizedConvLSTMCell,
}


def reason_not_quantizable(layer: Any) -> str | None:
    """Why a layer cannot be quantized; `None` if it can.

    Args:
        layer: A Keras layer.

    Returns:
        String or `None`.
    """
    if isinstance(layer, QuantizedKernel):
        return "already quantized"
    if getattr(layer, "quantization_mode", None) is not None:
        return f"already quantized by Keras ({layer.quantization_mode})"
    if getattr(layer, "lora_enabled", False):
        return "LoRA is enabled: its weights would be lost"
    if type(layer) in QUANTIZED_CLASSES:
        return None
    if isinstance(layer, tuple(QUANTIZED_CLASSES)):
        return f"a subclass of a Keras layer: {type(layer).__name__}"
    return f"no quantized layer for {type(layer).__name__}"


def quantize_layer(
    layer: Any,
    quantizer: Any = "absmax",
    bits: int | None = None,
    granularity: str = "per_channel",
    group_size: int | None = None,
    name: str = "",
) -> Any:
    """Quantizes the kernels of a live layer in place.

    The object stays, so models that hold it need no change; it becomes an
    instance of the quantized class. Functions that were traced before still
    hold the old kernels: make them anew. Nothing is changed on an error.

    Args:
        layer: A built layer of exactly a class of Keras, as `Dense`.
        quantizer: String, config or `Quantizer`. Defaults to `"absmax"`.
        bits: Integer from 1 to 8. Defaults to the quantizer's own, mostly `8`.
        granularity: String. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        name: String. The layer's path, for the message of an error.

    Returns:
        The `QuantizedTensor` that the layer now holds; a dictionary of these
        by kernel name if the layer has several kernels.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the layer cannot be quantized.

    Example:
    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> tensor = quantize_layer(layer, bits=4)
    >>> type(layer).__name__, tensor.bits
    ('QuantizedDense', 4)
    """
    chosen = layer_quantizer(quantizer, bits, granularity, group_size)
    tensors = encode_kernels(layer, chosen, name)
    convert_layer(layer, chosen, tensors)
    return tensors if len(tensors) > 1 else next(iter(tensors.values()))


def encode_kernels(
    layer: Any, quantizer: Quantizer, name: str = ""
) -> dict[str, QuantizedTensor]:
    """Quantizes copies of a layer's kernels; the layer is not changed.

    Args:
        layer: A built layer of exactly a class of Keras.
        quantizer: `Quantizer`.
        name: String. The layer's path, for the message of an error.

    Returns:
        Dictionary of kernel name to `QuantizedTensor`.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the layer cannot be quantized.
    """
    encoded = {}
    for kernel, variable in kernel_variables(layer).items():
        array = np.asarray(keras.ops.convert_to_numpy(variable.value))
        axis = kernel_axis(layer, kernel, array.shape)
        path = f"{name or layer.name}/{kernel}"
        encoded[kernel] = quantizer.encode(array, axis, path)
    return encoded


def kernel_axis(
    layer: Any, kernel: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The axes that index the channels of a kernel of a Keras layer.

    Args:
        layer: A layer of a class in `QUANTIZED_CLASSES`, or of a subclass.
        kernel: String. The kernel's name.
        shape: Tuple of integers. The kernel's shape.

    Returns:
        Ascending tuple of axes.
    """
    kinds = [QUANTIZED_CLASSES.get(kind) for kind in type(layer).__mro__]
    target = next(kind for kind in kinds if kind is not None)
    axis: tuple[int, ...] = target.channel_axis(layer, shape, kernel)
    return axis


def kernel_variables(layer: Any) -> dict[str, Any]:
    """The variables that hold the kernels of a layer to be quantized.

    Args:
        layer: A built layer of exactly a class of Keras.

    Returns:
        Dictionary of kernel name to `keras.Variable`.

    Raises:
        SqueezeError: If the layer cannot be quantized or is not built.
    """
    attributes = _kernel_attributes(layer)
    return {name: getattr(layer, a) for name, a in attributes.items()}


def _kernel_attributes(layer: Any) -> dict[str, str]:
    """The attribute that holds the variable of each kernel."""
    reason = reason_not_quantizable(layer)
    if reason is not None:
        raise SqueezeError(
            "Expected a plain Keras layer of one of the classes "
            f"{sorted(c.__name__ for c in QUANTIZED_CLASSES)}. "
            f"Received: {layer.name!r}, {reason}"
        )
    found: dict[str, str] = {}
    for name in QUANTIZED_CLASSES[type(layer)].kernel_names:
        for attribute in (f"_{name}", name):
            if isinstance(layer.__dict__.get(attribute), keras.Variable):
                found.setdefault(name, attribute)
    if not found:
        raise UnbuiltModelError(
            "Expected a built layer: build it or call it first. Received: "
            f"unbuilt layer {layer.name!r}"
        )
    return found


def convert_layer(
    layer: Any,
    quantizer: Quantizer,
    tensors: Mapping[str, QuantizedTensor] | QuantizedTensor | None = None,
) -> None:
    """Turns a live layer into its quantized class.

    Args:
        layer: A built layer of exactly a class of Keras.
        quantizer: `Quantizer` of the new class.
        tensors: Its kernels, made by that quantizer: a mapping of kernel name
            to `QuantizedTensor`, or the tensor of the only kernel. `None` for
            kernels of zeros, to be loaded later. Defaults to `None`.

    Raises:
        SqueezeError: If the layer cannot be quantized, or a tensor does not
            fit. The layer is unchanged then.
    """
    attributes = _kernel_attributes(layer)
    given = _by_kernel(layer, list(attributes), tensors)
    target = QUANTIZED_CLASSES[type(layer)]
    layouts, values = [], {}
    for name, attribute in attributes.items():
        old = getattr(layer, attribute)
        layout = kernel_layout(target, layer, name, old.shape, quantizer)
        layouts.append(layout)
        values[old.path] = layout.values(given[name])
    variables = {
        key: variable
        for path, kernel in values.items()
        for key, variable in _new_variables(path, kernel).items()
    }
    state = {"kernel_quantizer": quantizer, "_layouts": tuple(layouts)}
    _swap(layer, attributes.values(), target, {**state, **variables})


def _by_kernel(
    layer: Any,
    names: list[str],
    tensors: Mapping[str, QuantizedTensor] | QuantizedTensor | None,
) -> Mapping[str, QuantizedTensor | None]:
    if tensors is None:
        return dict.fromkeys(names)
    if isinstance(tensors, QuantizedTensor) and len(names) == 1:
        return {names[0]: tensors}
    if not isinstance(tensors, Mapping) or set(tensors) != set(names):
        received = list(tensors) if isinstance(tensors, Mapping) else tensors
        raise SqueezeError(
            f"Expected a quantized tensor for each of the kernels {names} of "
            f"{layer.name!r}. Received: {received}"
        )
    return tensors


def _new_variables(path: str, values: dict[str, Any]) -> dict[str, Any]:
    """Variables under the name scope of the old kernel, in order."""
    scope, _, name = path.rpartition("/")[0].rpartition("/")
    if not name:
        return {key: _frozen(key, value) for key, value in values.items()}
    with keras.name_scope(name, override_parent=scope):
        return {key: _frozen(key, value) for key, value in values.items()}


def _frozen(name: str, value: Any) -> Any:
    return keras.Variable(
        value,
        dtype=value.dtype.name,
        trainable=False,
        autocast=False,
        name=name,
    )


def _swap(
    layer: Any,
    dropped: Iterable[str],
    target: type,
    attributes: dict[str, Any],
) -> None:
    with unlocked(layer):
        for attribute in dropped:
            drop_variable(layer, attribute)
        change_class(layer, target)
        for name, value in attributes.items():
            setattr(layer, name, value)
