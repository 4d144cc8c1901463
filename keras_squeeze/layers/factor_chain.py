"""The plain Keras layers that a factorized layer calls in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_squeeze.errors import SqueezeError

FACTOR_NAMES = {2: ("reduce", "expand"), 3: ("reduce", "core", "expand")}


def build_chain(factors: Sequence[Any], input_shape: Any) -> None:
    """Builds layers that are called one after the other.

    Args:
        factors: Keras layers in the order of their calls.
        input_shape: The first one's input shape; `None` if it needs none.
    """
    shape = input_shape
    for factor in factors:
        if isinstance(factor, keras.layers.Embedding):
            # It takes any shape; of what follows only the width counts.
            shape = (None,) if shape is None else shape
        if not factor.built:
            factor.build(shape)
        shape = factor.compute_output_shape(shape)


def factor_variable(factor: Any) -> Any:
    """The variable that holds the kernel of a plain Keras layer.

    Args:
        factor: A Keras layer.

    Returns:
        `keras.Variable`, or `None` if the layer holds its kernel otherwise
        (quantized) or is not built.
    """
    for name in ("_kernel", "_embeddings", "kernel"):
        value = factor.__dict__.get(name)
        if isinstance(value, keras.Variable):
            return value
    return None


def common_arguments(layer: Any, prefix: str = "kernel") -> dict[str, Any]:
    """What every factor takes from the layer it is made for.

    Args:
        layer: A Keras layer, factorized or not.
        prefix: String. The kernel's name in the layer's arguments, as
            `"embeddings"`. Defaults to `"kernel"`.

    Returns:
        Dictionary of the arguments `kernel_initializer`,
        `kernel_regularizer` and `dtype`.
    """
    return {
        "kernel_initializer": _copied(getattr(layer, f"{prefix}_initializer")),
        "kernel_regularizer": getattr(layer, f"{prefix}_regularizer"),
        "dtype": _policy(layer),
    }


def output_arguments(layer: Any) -> dict[str, Any]:
    """What the last factor takes besides: activation and bias.

    Args:
        layer: A Keras layer that has both, factorized or not.

    Returns:
        Dictionary of arguments, without `use_bias`.
    """
    return {
        "activation": layer.activation,
        "bias_initializer": _copied(layer.bias_initializer),
        "bias_regularizer": layer.bias_regularizer,
        "bias_constraint": layer.bias_constraint,
    }


def finished(layer: Any, factors: list[Any]) -> list[Any]:
    """Gives new factors the layer's casting of inputs.

    Args:
        layer: The layer they were made for.
        factors: The new layers.

    Returns:
        The same list.
    """
    for factor in factors:
        factor.autocast = layer.autocast
    return factors


def _copied(initializer: Any) -> Any:
    """A new initializer of the same kind, free of the kernel's axes."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = dict(initializer.get_config())
    for axes in ("input_axes", "output_axes"):
        if axes in config:
            config[axes] = None
    return type(initializer).from_config(config)


def _policy(layer: Any) -> Any:
    policy = layer.dtype_policy
    if not isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        return policy
    if layer.path is None:
        raise SqueezeError(
            f"Expected one dtype policy for {layer.name!r}: a map tells it "
            "only once the layer has a path. Received: "
            f"{type(policy).__name__}"
        )
    return policy[layer.path]
