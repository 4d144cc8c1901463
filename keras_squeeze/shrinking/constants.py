"""What layers make of channels whose value never changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_squeeze.shrinking.channels import Constants

_ELEMENTWISE = {
    getattr(keras.activations, name)
    for name in (
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softplus",
        "softsign",
        "sparse_plus",
        "sparse_sigmoid",
        "squareplus",
        "tanh",
        "tanh_shrink",
        "threshold",
    )
    if hasattr(keras.activations, name)
}
_ELEMENTWISE_LAYERS = (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
)


def is_elementwise(activation: Any) -> bool:
    """Whether an activation is known to treat each channel for itself.

    Args:
        activation: `None`, a function of `keras.activations`, or a layer.

    Returns:
        Boolean; false for functions Keras does not have.

    Example:
    >>> is_elementwise(keras.activations.relu)
    True
    >>> is_elementwise(keras.activations.softmax)
    False
    """
    if activation is None or type(activation) in _ELEMENTWISE_LAYERS:
        return True
    if type(activation) is keras.layers.Activation:
        return is_elementwise(activation.activation)
    return callable(activation) and activation in _ELEMENTWISE


def evaluate(function: Callable[..., Any], *arguments: Constants) -> Constants:
    """Applies an elementwise function to constants.

    Args:
        function: Callable on tensors of shape `(1, channels)`.
        *arguments: Float arrays of shape `(channels,)`, NaN for values that
            vary.

    Returns:
        Float array; NaN where any argument is NaN.

    Example:
    >>> evaluate(keras.ops.relu, np.array([-1.0, 2.0, np.nan]))
    array([ 0.,  2., nan])
    """
    arrays = np.broadcast_arrays(*arguments)
    known = ~np.any([np.isnan(array) for array in arrays], axis=0)
    result = np.full(known.shape, np.nan)
    if known.any():
        tensors = [
            keras.ops.convert_to_tensor(
                np.where(known, array, 0)[None].astype(np.float32)
            )
            for array in arrays
        ]
        values = keras.ops.convert_to_numpy(function(*tensors))[0]
        result[known] = values[known]
    return result


def multiply(*arguments: Constants) -> Constants:
    """The product of channels: zero wherever one of them is zero.

    Args:
        *arguments: Float arrays of shape `(channels,)`, NaN for values that
            vary.

    Returns:
        Float array.

    Example:
    >>> multiply(np.array([0.0, 2.0, 2.0]), np.array([np.nan, np.nan, 3.0]))
    array([ 0., nan,  6.])
    """
    arrays = np.broadcast_arrays(*arguments)
    is_zero = np.any([array == 0 for array in arrays], axis=0)
    return np.where(is_zero, 0.0, np.prod(arrays, axis=0))


def contract(
    constants: Constants,
    kernel: NDArray[Any],
    axes: tuple[int, int],
    foldable: bool,
    bias: NDArray[Any] | None,
) -> tuple[Constants, NDArray[np.bool_]]:
    """What a kernel makes of its inputs.

    Args:
        constants: Float array of shape `(inputs,)`, NaN for what varies.
        kernel: Float array.
        axes: The kernel's input axis and output axis.
        foldable: Boolean. Whether a constant input gives a constant output:
            not at a border padded with zeros.
        bias: Float array of shape `(outputs,)` or `None`.

    Returns:
        The constants of the outputs, and a boolean array that is true for the
        inputs that no weight reads.
    """
    ndim = kernel.ndim
    order = (axes[0] % ndim, axes[1] % ndim)
    rest = tuple(i for i in range(ndim) if i not in order)
    matrix = kernel.transpose(*order, *rest)
    reads = matrix != 0
    if rest:
        reads = reads.any(axis=tuple(range(2, ndim)))
    constant = ~np.isnan(constants) & (foldable | (constants == 0))
    result = np.where(reads[~constant].any(axis=0), np.nan, 0.0)
    for i in np.flatnonzero(constant & (np.nan_to_num(constants) != 0)):
        part = matrix[i].reshape(len(result), -1).sum(axis=1, dtype=np.float64)
        result += constants[i] * part
    if bias is not None:
        result = result + bias
    return result, ~reads.any(axis=1)
