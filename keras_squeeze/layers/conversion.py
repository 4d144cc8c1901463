"""A live Keras layer becomes its quantized class, in place."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import SqueezeError, UnbuiltModelError
from keras_squeeze.layers import quantized_convolution as convolution
from keras_squeeze.layers.kernel_layout import kernel_layout
from keras_squeeze.layers.quantized_dense import QuantizedDense
from keras_squeeze.layers.quantized_einsum_dense import QuantizedEinsumDense
from keras_squeeze.layers.quantized_embedding import QuantizedEmbedding
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
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
    bits: int = 8,
    granularity: str = "per_channel",
    group_size: int | None = None,
    name: str = "",
) -> QuantizedTensor:
    """Quantizes the kernel of a live layer in place.

    The object stays, so models that hold it need no change; it becomes an
    instance of the quantized class. Functions that were traced before still
    hold the old kernel: make them anew. Nothing is changed on an error.

    Args:
        layer: A built layer of exactly a class of Keras, as `Dense`.
        quantizer: String, config or `Quantizer`. Defaults to `"absmax"`.
        bits: Integer from 1 to 8. Defaults to `8`.
        granularity: String. Defaults to `"per_channel"`.
        group_size: Integer, for `"per_group"`. Defaults to `None`.
        name: String. The layer's path, for the message of an error.

    Returns:
        The `QuantizedTensor` that the layer now holds.

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
    tensor = encode_kernel(layer, chosen, name)
    convert_layer(layer, chosen, tensor)
    return tensor


def encode_kernel(
    layer: Any, quantizer: Quantizer, name: str = ""
) -> QuantizedTensor:
    """Quantizes a copy of a layer's kernel; the layer is not changed.

    Args:
        layer: A built layer of exactly a class of Keras.
        quantizer: `Quantizer`.
        name: String. The layer's path, for the message of an error.

    Returns:
        `QuantizedTensor`.

    Raises:
        NonFiniteError: If a weight is NaN or infinite.
        SqueezeError: If the layer cannot be quantized.
    """
    variable = kernel_variable(layer)
    target = QUANTIZED_CLASSES[type(layer)]
    array = np.asarray(keras.ops.convert_to_numpy(variable.value))
    axis = target.channel_axis(layer, array.shape)
    return quantizer.encode(array, axis, name or f"{layer.name}/kernel")


def kernel_variable(layer: Any) -> Any:
    """The variable that holds the kernel of a layer to be quantized.

    Args:
        layer: A built layer of exactly a class of Keras.

    Returns:
        `keras.Variable`.

    Raises:
        SqueezeError: If the layer cannot be quantized or is not built.
    """
    return getattr(layer, _kernel_attribute(layer))


def _kernel_attribute(layer: Any) -> str:
    reason = reason_not_quantizable(layer)
    if reason is not None:
        raise SqueezeError(
            "Expected a plain Keras layer of one of the classes "
            f"{sorted(c.__name__ for c in QUANTIZED_CLASSES)}. "
            f"Received: {layer.name!r}, {reason}"
        )
    name = _kernel_name(layer)
    for attribute in (f"_{name}", name):
        if isinstance(layer.__dict__.get(attribute), keras.Variable):
            return attribute
    raise UnbuiltModelError(
        "Expected a built layer: build it or call it first. Received: "
        f"unbuilt layer {layer.name!r}"
    )


def _kernel_name(layer: Any) -> str:
    target = QUANTIZED_CLASSES[type(layer)]
    return str(target.kernel_name)


def convert_layer(
    layer: Any, quantizer: Quantizer, tensor: QuantizedTensor | None = None
) -> None:
    """Turns a live layer into its quantized class.

    Args:
        layer: A built layer of exactly a class of Keras.
        quantizer: `Quantizer` of the new class.
        tensor: Its kernel, made by that quantizer; `None` for a kernel of
            zeros, to be loaded later.

    Raises:
        SqueezeError: If the layer cannot be quantized, or the tensor does
            not fit. The layer is unchanged then.
    """
    attribute = _kernel_attribute(layer)
    old, target = getattr(layer, attribute), QUANTIZED_CLASSES[type(layer)]
    layout = kernel_layout(target, layer, old.shape, quantizer)
    variables = _new_variables(old.path, layout.values(tensor))
    attributes = {"kernel_quantizer": quantizer, "layout": layout}
    _swap(layer, attribute, target, {**attributes, **variables})


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
    layer: Any, attribute: str, target: type, attributes: dict[str, Any]
) -> None:
    with unlocked(layer):
        drop_variable(layer, attribute)
        layer.__class__ = target
        for name, value in attributes.items():
            setattr(layer, name, value)
    # Keras binds these two to the class an object was made with.
    for name in ("build", "quantize"):
        layer.__dict__.pop(name, None)
