"""A live quantized layer becomes the Keras layer it extends, in place."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError, UnbuiltModelError
from keras_squeeze.layers.class_change import change_class
from keras_squeeze.layers.quantized_kernel import QuantizedKernel
from keras_squeeze.layers.tracked_variables import drop_variable, unlocked


@dataclasses.dataclass(frozen=True)
class FloatKernels:
    """The float kernels that a quantized layer is to hold.

    Args:
        layer: The quantized layer.
        target: The class of Keras that it is to become.
        variables: Dictionary of kernel name to its new `keras.Variable`.
    """

    layer: Any
    target: type
    variables: dict[str, Any]


def dequantize_layer(layer: Any) -> dict[str, Any]:
    """Turns a live quantized layer into its Keras class, in place.

    The object stays, so models that hold it need no change; it becomes an
    instance of Keras' own class, with trainable float kernels whose values
    are those that the codes stand for. Whether the layer is trainable decides
    about its kernels too. Functions that were traced before still hold the
    codes, and an optimizer does not know the kernels: make them anew. Nothing
    is changed on an error.

    Args:
        layer: A built layer of exactly a quantized class of this package, as
            `QuantizedDense`.

    Returns:
        Dictionary of kernel name, as `"kernel"`, to the new
        `keras.Variable`.

    Raises:
        SqueezeError: If the layer is none of these.
        UnbuiltModelError: If it is not built.

    Example:
    >>> from keras_squeeze.layers import QuantizedDense
    >>> layer = QuantizedDense(2, bits=4)
    >>> layer.build((None, 3))
    >>> kernels = dequantize_layer(layer)
    >>> type(layer).__name__, list(kernels), layer.kernel is kernels["kernel"]
    ('Dense', ['kernel'], True)
    """
    kernels = float_kernels(layer)
    hold_float_kernels(kernels)
    return kernels.variables


def float_kernels(layer: Any) -> FloatKernels:
    """Makes the float kernels of a quantized layer, which is not changed.

    Args:
        layer: A built layer of exactly a quantized class of this package.

    Returns:
        `FloatKernels`, for `hold_float_kernels`.

    Raises:
        SqueezeError: If the layer is none of these.
        UnbuiltModelError: If it is not built.
    """
    if not isinstance(layer, QuantizedKernel):
        raise SqueezeError(
            "Expected a layer with a quantized kernel. "
            f"Received: {layer!r} of type {type(layer).__name__}"
        )
    target = stock_class(layer)
    if not layer.built:
        raise UnbuiltModelError(
            "Expected a built layer: build it or call it first. Received: "
            f"unbuilt layer {layer.name!r}"
        )
    variables = {name: _float_kernel(layer, name) for name in layer.layouts}
    return FloatKernels(layer, target, variables)


def stock_class(layer: Any) -> type:
    """The class of Keras that a quantized layer extends.

    Args:
        layer: A layer of exactly a class of this package.

    Returns:
        The class, as `keras.layers.Dense`.

    Raises:
        SqueezeError: If the layer is of another class, as a subclass of the
            user's, whose code belongs to the quantized class.
    """
    kind = type(layer)
    if not kind.__module__.startswith("keras_squeeze."):
        raise SqueezeError(
            "Expected a layer of exactly a quantized class of keras_squeeze: "
            "what a subclass adds has no place in Keras' class. Received: "
            f"{layer.name!r} of type {kind.__module__}.{kind.__qualname__}"
        )
    return next(
        base for base in kind.__mro__ if base.__module__.startswith("keras.")
    )


def hold_float_kernels(kernels: FloatKernels) -> None:
    """Gives a quantized layer its float kernels and its Keras class.

    Args:
        kernels: `FloatKernels` of the layer as it is now.
    """
    layer, variables = kernels.layer, list(kernels.variables.values())
    with unlocked(layer):
        for layout in layer.layouts.values():
            for name in layout.variables():
                drop_variable(layer, name)
        become_stock(layer, kernels.target)
        for name, variable in kernels.variables.items():
            setattr(layer, _attribute(kernels.target, name), variable)
    _put_first(layer._trainable_variables, variables)
    if not layer.trainable:
        for variable in variables:
            variable.trainable = False
    _bind_quantize(layer)


def become_stock(layer: Any, target: type) -> None:
    """Gives a layer its Keras class, and takes its quantizers away.

    Args:
        layer: A layer of a class of this package.
        target: What `stock_class` says about it.
    """
    # Past Keras' bookkeeping: these are no variables.
    for name in ("kernel_quantizer", "_layouts", "_requested"):
        layer.__dict__.pop(name, None)
    change_class(layer, target)


def _bind_quantize(layer: Any) -> None:
    """Lets Keras quantize the layer, for which it has to be unlocked."""
    unbound = type(layer).quantize

    @functools.wraps(unbound)
    def quantize(*args: Any, **kwargs: Any) -> None:
        with unlocked(layer):
            unbound(layer, *args, **kwargs)

    layer.quantize = quantize


def _put_first(tracked: list[Any], variables: list[Any]) -> None:
    # Keras makes kernels before biases, and saves some layers by this order.
    chosen = {id(variable) for variable in variables}
    tracked[:] = variables + [v for v in tracked if id(v) not in chosen]


def _float_kernel(layer: Any, name: str) -> Any:
    """A new variable as `build` of the Keras layer would have made it."""
    value = layer.quantized_kernel(name).dequantize()
    path = layer.stored(name).part("codes").path
    scope, _, inner = path.rpartition("/")[0].rpartition("/")
    arguments = {"dtype": layer.variable_dtype, "name": name}
    if inner:
        with keras.name_scope(inner, override_parent=scope):
            variable = keras.Variable(value, **arguments)
    else:
        variable = keras.Variable(value, **arguments)
    variable.regularizer = _argument(layer, name, "regularizer")
    variable.constraint = _argument(layer, name, "constraint")
    return variable


def _argument(layer: Any, kernel: str, suffix: str) -> Any:
    """What the layer was given for a kernel: `"recurrent_regularizer"`."""
    # The kernel of a depthwise convolution goes by another name there.
    for prefix in (kernel, kernel.removesuffix("_kernel"), "depthwise"):
        if hasattr(layer, f"{prefix}_{suffix}"):
            return getattr(layer, f"{prefix}_{suffix}")
    return None


def _attribute(target: type, name: str) -> str:
    """Where the Keras class keeps a kernel; some have a property before it."""
    return (
        f"_{name}"
        if isinstance(getattr(target, name, None), property)
        else name
    )
