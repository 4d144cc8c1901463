"""Names for the layers, variables and kernels of a live model.

A path is made of layer names from the model down ("encoder/attention/query").
It is equal for a model and for the one its config makes; only sublayers that a
class of the user's makes without a name get new numbers from Keras each time.
Sharing is resolved: a layer or a variable that appears twice has the path of
its first appearance.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import (
    NoKernelMatchedError,
    SqueezeError,
    UnbuiltModelError,
)

Filters = str | Callable[[Any], bool] | None

_layers = keras.layers


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A variable that holds a layer's kernel.

    Args:
        path: String. The layer's path joined with the variable's name.
        layer: The layer that owns the variable.
        attribute: String. The layer's attribute, as `"kernel"`.
        variable: The `keras.Variable`.
    """

    path: str
    layer: Any
    attribute: str
    variable: Any


def walk_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Visits every layer below a model once, parents first.

    Args:
        model: A `keras.Model` or layer.

    Yields:
        Pairs of path and layer; the model itself has the path `""`.
    """
    yield from _walk(model, "", set())


def _walk(layer: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    seen.add(id(layer))
    yield path, layer
    prefix = f"{path}/" if path else ""
    taken: set[str] = set()
    for child in layer._flatten_layers(include_self=False, recursive=False):
        name = _unique(child.name.replace("/", "_"), taken)
        if id(child) not in seen:
            yield from _walk(child, prefix + name, seen)


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        candidate = f"{name}~{count}"
        count += 1
    taken.add(candidate)
    return candidate


def named_variables(model: Any) -> dict[str, Any]:
    """All state of a model by path: weights and seeds, no metrics.

    Args:
        model: A built `keras.Model` or layer.

    Returns:
        Dictionary of path to `keras.Variable`, in model order, each variable
        once.

    Raises:
        UnbuiltModelError: If the model has layers but is not built.
    """
    check_built(model)
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for path, layer in walk_layers(model):
        taken: set[str] = set()
        for variable in _own_variables(layer):
            name = _unique(variable.name.replace("/", "_"), taken)
            if id(variable) not in seen:
                seen.add(id(variable))
                found[f"{path}/{name}" if path else name] = variable
    return found


def _own_variables(layer: Any) -> list[Any]:
    own = list(layer._trainable_variables) + list(
        layer._non_trainable_variables
    )
    return own + [generator.state for generator in layer._seed_generators]


def check_built(model: Any) -> None:
    """Raises `UnbuiltModelError` unless the model has its variables."""
    if not isinstance(model, _layers.Layer):
        raise SqueezeError(
            f"Expected a keras.Model or layer. Received: {type(model).__name__}"
        )
    unbuilt = [path for path, layer in walk_layers(model) if not layer.built]
    if not model.built or (unbuilt and not model.variables):
        raise UnbuiltModelError(
            f"Expected a built model: call it on a batch, `model.build("
            f"input_shape)` or add an `Input` first. Received: unbuilt model "
            f"{model.name!r} of type {type(model).__name__}"
        )


def find_kernels(model: Any, filters: Filters = None) -> list[Kernel]:
    """The kernels of Dense, convolutional, Embedding, Einsum and RNN layers.

    Kernels are found by the layer's attribute, never by rank: biases of
    attention and recurrent layers have two or more dimensions too.

    Args:
        model: A built `keras.Model` or layer.
        filters: Optional regex searched in the layer's path and in the
            kernel's path, or callable `layer -> bool`. `None` takes all.

    Returns:
        List of `Kernel`, floating-point variables with two or more
        dimensions, each variable once.

    Raises:
        NoKernelMatchedError: If nothing is left; the message lists the
            candidates.
    """
    candidates = list(_candidates(model))
    if not candidates:
        raise NoKernelMatchedError(
            "Expected a model with at least one floating-point kernel of a "
            "Dense, convolutional, Embedding, EinsumDense or recurrent layer. "
            f"Received: {model.name!r} with layers "
            f"{[type(layer).__name__ for _, layer in walk_layers(model)][1:]}"
        )
    matched = [kernel for kernel in candidates if matches(filters, kernel)]
    if not matched:
        names = ", ".join(kernel.path for kernel in candidates)
        raise NoKernelMatchedError(
            f"Expected `filters` to match at least one kernel of "
            f"{model.name!r}; the candidates are {names}. "
            f"Received: filters={filters!r}"
        )
    return matched


def matches(filters: Filters, kernel: Kernel) -> bool:
    """Whether `filters` (regex, callable or `None`) accepts a kernel."""
    if filters is None:
        return True
    if callable(filters):
        return bool(filters(kernel.layer))
    if isinstance(filters, str):
        return re.search(filters, kernel.path) is not None
    raise SqueezeError(
        "Expected `filters` to be None, a regex or a callable(layer) -> bool. "
        f"Received: {filters!r}"
    )


def _candidates(model: Any) -> Iterable[Kernel]:
    seen: set[int] = set()
    for path, layer in walk_layers(model):
        for attribute in kernel_attributes(layer):
            variable = _kernel_variable(layer, attribute)
            if variable is None or id(variable) in seen:
                continue
            seen.add(id(variable))
            prefix = f"{path}/" if path else ""
            yield Kernel(prefix + variable.name, layer, attribute, variable)


def kernel_attributes(layer: Any) -> tuple[str, ...]:
    """The attributes under which a layer holds its kernels, or `()`."""
    for classes, attributes in _KERNEL_ATTRIBUTES:
        if isinstance(layer, classes):
            return attributes
    # Keras does not publish the cell of its convolutional LSTM layers.
    if any(c.__name__ == "ConvLSTMCell" for c in type(layer).__mro__):
        return ("kernel", "recurrent_kernel")
    return ()


def _kernel_variable(layer: Any, attribute: str) -> Any | None:
    for name in (f"_{attribute}", attribute):
        value = layer.__dict__.get(name)
        if isinstance(value, keras.Variable):
            floating = "float" in keras.backend.standardize_dtype(value.dtype)
            return value if floating and len(value.shape) >= 2 else None
    return None


def to_numpy(variable: Any) -> np.ndarray:
    """The value of a variable as a NumPy array of its own dtype."""
    value, shape = variable.value, tuple(variable.shape)
    if not shape:
        # NumPy cannot read a scalar that is mirrored over devices.
        value = keras.ops.reshape(value, (1,))
    return np.asarray(keras.ops.convert_to_numpy(value)).reshape(shape)


def _bases(*names: str) -> tuple[type, ...]:
    """The abstract bases behind public layers: Conv2D -> BaseConv."""
    return tuple(getattr(_layers, name).__mro__[1] for name in names)


# The first that fits counts: a class stands before those that it extends.
_KERNEL_ATTRIBUTES: tuple[tuple[tuple[type, ...], tuple[str, ...]], ...] = (
    (_bases("SeparableConv2D"), ("depthwise_kernel", "pointwise_kernel")),
    (_bases("DepthwiseConv2D"), ("kernel",)),
    (_bases("Conv2D", "Conv2DTranspose"), ("kernel",)),
    ((_layers.Dense, _layers.EinsumDense), ("kernel",)),
    (
        (_layers.ReversibleEmbedding,),
        ("embeddings", "reverse_embeddings"),
    ),
    ((_layers.Embedding,), ("embeddings",)),
    (
        (
            _layers.LSTMCell,
            _layers.GRUCell,
            _layers.SimpleRNNCell,
        ),
        ("kernel", "recurrent_kernel"),
    ),
)
