"""A live model with quantized kernels becomes one of plain Keras layers."""

from __future__ import annotations

from typing import Any

import keras

from keras_squeeze.layers.dequantizing import (
    become_stock,
    float_kernels,
    hold_float_kernels,
    stock_class,
)
from keras_squeeze.layers.quantized_attention import QuantizedProjections
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.quantized_recurrent import QuantizedRecurrence
from keras_squeeze.surgery.layer_tree import check_built, walk_layers
from keras_squeeze.surgery.optimizer_migration import renew_functions


def dequantize_model(model: Any) -> list[str]:
    """Gives every quantized layer of a model its Keras class back, in place.

    Layers inside layers and models of your own classes are changed too, and
    attention and recurrent layers that remember how they are quantized. The
    kernels are float variables with the values that the codes stand for, and
    are trained like any other. A compiled model has to be compiled again
    before it is trained on: its optimizer does not know the new kernels.

    Low-rank layers stay as they are, with float factors.

    Args:
        model: A built `keras.Model` or layer.

    Returns:
        List of the paths of the layers that were quantized, in model order.

    Raises:
        SqueezeError: If a quantized layer is of a class of your own. Nothing
            is changed then.
        UnbuiltModelError: If the model has no variables yet.

    Example:
    >>> import keras, keras_squeeze as ks
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> small, _ = ks.quantize(model, bits=4)
    >>> paths = dequantize_model(small)
    >>> type(small.layers[0]).__name__, len(small.trainable_variables)
    ('Dense', 2)
    """
    check_built(model)
    found = list(walk_layers(model))
    prepared = [
        (path, float_kernels(layer))
        for path, layer in found
        if isinstance(layer, QuantizedKernel)
    ]
    parents = _remembering(found)
    for _, kernels in prepared:
        hold_float_kernels(kernels)
    for parent, target in parents:
        become_stock(parent, target)
    if prepared:
        _renew(found)
    return [path for path, _ in prepared]


def release_parents(model: Any) -> None:
    """Lets layers whose quantized sublayers are float again forget it.

    The opposite of `adopt_parents`, after `dequantize_layer`: attention and
    recurrent layers become Keras' own where nothing in them is quantized.

    Args:
        model: A `keras.Model` or layer.

    Raises:
        SqueezeError: If such a layer is of a class of your own. Nothing is
            changed then.
    """
    parents = _remembering(list(walk_layers(model)))
    for parent, target in parents:
        inside = (layer for _, layer in walk_layers(parent))
        if not any(isinstance(layer, QuantizedKernel) for layer in inside):
            become_stock(parent, target)


def _remembering(found: list[tuple[str, Any]]) -> list[tuple[Any, type]]:
    """Layers that know how what they make is quantized, and Keras' class."""
    kinds = QuantizedProjections, QuantizedRecurrence
    layers = [layer for _, layer in found if isinstance(layer, kinds)]
    return [(layer, stock_class(layer)) for layer in layers]


def _renew(found: list[tuple[str, Any]]) -> None:
    for _, layer in found:
        if isinstance(layer, keras.Model):
            renew_functions(layer)
